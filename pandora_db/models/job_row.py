"""`JobRow`: a job as it is stored, light and positional."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from pandora_db.models.event import stage_name
from pandora_db.models.job_metadata import JobMetadata
from pandora_db.models.light import light
from pandora_db.models.stage import STAGES, StageCode, StageKind, stage_of
from pandora_db.models.status import Hold, JobStatus, status_of

_SHOWN = 80
"""Characters of an error that are shown beside a job."""


class JobRow(NamedTuple):
    """One row of `jobs`, undecoded (seed: libpndb). Codes are plain ints, JSON is text.

    What another program stored stays readable here: unknown codes, negative ids, and None for a
    NULL in any column but `job_id` and `archived`.
    The order of the fields is the order of the columns in every query that returns jobs.
    """

    job_id: int
    author: str
    requested_at: int
    """Unix seconds."""
    job_type: int
    preset: int
    preset_concat: int | None
    link: str
    directory: str
    ready: int
    """The stage code."""
    message_id: int
    channel_id: int
    created_at: datetime | None
    completed_at: datetime | None
    archived: bool
    author_id: int | None = None
    guild_id: int | None = None
    external_id: str | None = None
    idempotency_key: str | None = None
    priority: int = 0
    attempt: int = 0
    hold: int = 0
    progress: float | None = None
    """0 … 1."""
    progress_data: str | None = None
    current_step: str | None = None
    output_kind: str | None = None
    output: str | None = None
    output_file: str | None = None
    error: str | None = None
    config: str | None = None
    updated_at: datetime | None = None
    name: str | None = None
    tags: str | None = None
    concurrency_key: str | None = None
    not_before: float | None = None
    """Unix seconds."""
    max_attempts: int | None = None
    params: bytes | None = None
    """The input as dispatched."""

    def to_job_metadata(self) -> JobMetadata:
        """The job with enums, times, path and JSON decoded (seed: libpndb).

        Raises:
            UnknownCode: a stage, preset, job type or hold that this version does not know.
            InvalidInput: a time or JSON text that cannot be decoded.
        """
        return JobMetadata.from_row(self)

    @property
    def stage(self) -> StageCode:
        """`ready` as a member of its enum; raises `UnknownCode` for a stage that nobody knows."""
        return stage_of(self.ready)

    @property
    def status(self) -> JobStatus:
        """What became of the job; raises `UnknownCode` for a stage that nobody knows."""
        return status_of(self.ready, self.hold)

    @property
    def key(self) -> tuple[int | None, int]:
        """(requested_at, job_id): where the job stands in a listing, for `get_jobs(after=…)`."""
        return (self.requested_at, self.job_id)

    def __str__(self) -> str:
        words = [f"job {self.job_id}", f"by {self.author}", stage_name(self.ready)]
        if self.progress is not None and not _is_past(self.ready, self.attempt):
            words.append(f"{self.progress:.0%}")
        if self.hold:
            words.append(_held(self.ready, self.hold))
        if self.archived:
            words.append("archived")
        if self.error:
            first = self.error.partition("\n")[0]
            words.append(first if len(first) <= _SHOWN else f"{first[:_SHOWN]}…")
        return " · ".join(words)


def _is_past(stage: int, attempt: int) -> bool:
    """Whether the progress is that of an earlier stage, kept until the next one tells its own."""
    info = STAGES.get(stage)
    if info is None or info.kind is not StageKind.WAITING or attempt:
        return info is not None and info.kind is StageKind.DONE
    return any(
        one.pipeline == info.pipeline and one.kind is StageKind.WORKING and one.code < stage
        for one in STAGES.values()
    )


def _held(stage: int, hold: int) -> str:
    """What was asked of a job, for people."""
    if hold == Hold.CANCEL:
        return "to be cancelled"
    if hold != Hold.PAUSE:
        return f"hold {hold}"
    info = STAGES.get(stage)
    return "to be paused" if info is not None and info.kind is StageKind.WORKING else "paused"


row_of = light(JobRow)
