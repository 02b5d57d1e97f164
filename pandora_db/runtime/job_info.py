"""`JobInfo`: all that is known of a registered job."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pandora_db.models.status import JobStatus
from pandora_db.runtime.notes import Notes
from pandora_db.runtime.progress import Progress

if TYPE_CHECKING:
    from pandora_db.codecs.json_text import Json
    from pandora_db.models.job_row import JobRow


@dataclass(frozen=True, slots=True)
class JobInfo:
    """A registered job, as far as it is.

    Attributes:
        id: the job.
        external_id: its id in another system.
        name: what it was dispatched by.
        status: what became of it.
        progress: how far it is.
        warnings: the last ones that it noted.
        errors: the last errors that did not end it.
        metrics: numbers that it noted.
        output: its result, as JSON.
        output_kind: what kind of result that is.
        error: why it, or its last attempt, has failed.
        attempt: how often it was begun.
        created_at: when it was dispatched.
        completed_at: when it ended.
    """

    id: int
    external_id: str | None
    name: str | None
    status: JobStatus
    progress: Progress
    warnings: tuple[str, ...]
    errors: tuple[str, ...]
    metrics: dict[str, float]
    output: Json
    output_kind: str | None
    error: str | None
    attempt: int
    created_at: datetime | None
    completed_at: datetime | None

    @classmethod
    def of(cls, row: JobRow) -> JobInfo:
        """What a stored job tells."""
        notes = Notes(row)
        return cls(
            id=row.job_id, external_id=row.external_id, name=row.name, status=row.status,
            progress=Progress.of(row),
            warnings=tuple(notes.warnings), errors=tuple(notes.errors), metrics=notes.metrics,
            output=None if row.output is None else json.loads(row.output),
            output_kind=row.output_kind, error=row.error, attempt=row.attempt,
            created_at=row.created_at, completed_at=row.completed_at,
        )  # fmt: skip
