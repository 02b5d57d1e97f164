"""The history of a job: one line per change, numbered without gaps."""

from __future__ import annotations

from datetime import datetime
from enum import IntEnum
from typing import NamedTuple
from uuid import UUID

from pandora_db.errors import UnknownCode
from pandora_db.models.stage import STAGES


class EventKind(IntEnum):
    """What happened; stored in `job_events.kind`.

    `RECORDED` is a change that another program made without telling what it was. `FINISHED` to
    `RELEASED` are how a worker ends a claim: `RETRYING` after a failed attempt that is not the
    last, `FAILED` after the last. `RECOVERED` and `INTERRUPTED` are the same for a worker that was
    lost.
    """

    INSERTED = 1
    STAGE = 2
    ARCHIVED = 3
    RETRIED = 4
    REQUEUED = 5
    CANCELLED = 6
    CANCEL_REQUESTED = 7
    DECLINED = 8
    UPDATED = 9
    DELETED = 10
    RECORDED = 11
    CLAIMED = 12
    FINISHED = 13
    RETRYING = 14
    FAILED = 15
    SNOOZED = 16
    RELEASED = 17
    PAUSED = 18
    PAUSE_REQUESTED = 19
    RESUMED = 20
    RECOVERED = 21
    INTERRUPTED = 22

    @classmethod
    def _missing_(cls, value: object) -> EventKind:
        known = ", ".join(f"{kind.value} {kind.name}" for kind in cls)
        raise UnknownCode("event kind", value, known)


class JobEvent(NamedTuple):
    """One line of a job's history, in the order of the columns.

    Attributes:
        job_id: the job.
        seq: 1, 2, 3 … per job, without gaps; from 1 again when a deleted job's id is used anew.
        at: when, by the database's clock (aware).
        kind: what happened.
        stage: the stage code afterwards; None when it says nothing about the stage.
        attempt: how often a worker had claimed the job at its stage.
        owner: the worker that did it, when it was one.
        operation_id: the call that did it; the jobs of one `insert_jobs` are numbered on from
            its id. None when another program wrote.
        detail: a reason or a note.
        previous: the stage code before; None when unknown.
    """

    job_id: int
    seq: int
    at: datetime
    kind: EventKind
    stage: int | None = None
    attempt: int = 0
    owner: str | None = None
    operation_id: UUID | None = None
    detail: str | None = None
    previous: int | None = None

    def __str__(self) -> str:
        at = self.at.isoformat(sep=" ", timespec="seconds")
        words = [f"#{self.seq}", at, self.kind.name.lower().replace("_", " ")]
        if self.stage is not None:
            arrow = "" if self.previous in (None, self.stage) else f"{stage_name(self.previous)} → "
            words.append(arrow + stage_name(self.stage))
        if self.owner:
            words.append(f"by {self.owner}")
        if self.detail:
            words.append(f"({self.detail})")
        return " ".join(words)


def stage_name(code: int | None) -> str:
    """The name of a stage for people; of an unknown one, its number."""
    if code is None:
        return "?"
    info = STAGES.get(code)
    return info.name if info else f"stage {code}"
