"""The history of a job: one line per change, numbered without gaps."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import IntEnum
from typing import Any, NamedTuple, Self
from uuid import UUID

from pandora_db.errors import UnknownCode
from pandora_db.models.stage import MEMBERS, STAGES


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
        stage: the stage afterwards, a member of its enum where this program knows it, else the
            code; None when it says nothing about the stage.
        attempt: which attempt at its stage the job was in, as in `Claim.attempt`; 0 before the
            first.
        owner: the worker that did it, when it was one; of a job that was recovered, the worker that
            was lost.
        operation_id: the call that did it; the jobs of one `insert_jobs` are numbered on from
            its id. None when another program wrote.
        detail: a reason or a note.
        previous: the stage before, likewise; None when unknown.
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

    @classmethod
    def decode(cls, job_id: int, values: Iterable[Any], *, kind: EventKind | None = None) -> Self:
        """The event of a row, whose columns are those after `job_id`; a given `kind` goes first.

        Raises:
            UnknownCode: a newer pandora_db recorded a kind of event that this one does not know.
        """
        seq, at, stored, stage, attempt, owner, operation_id, detail, previous = values
        return cls(
            job_id, seq, at, EventKind(stored) if kind is None else kind,
            MEMBERS.get(stage, stage), attempt, owner,
            None if operation_id is None else UUID(operation_id), detail,
            MEMBERS.get(previous, previous),
        )  # fmt: skip

    @property
    def stage_name(self) -> str:
        """The name of the stage afterwards, also of one that this program does not know."""
        return stage_name(self.stage)

    def __str__(self) -> str:
        at = self.at.isoformat(sep=" ", timespec="seconds")
        words = [f"job {self.job_id} #{self.seq}", at, self.kind.name.lower().replace("_", " ")]
        if self.stage is not None:
            arrow = "" if self.previous in (None, self.stage) else f"{stage_name(self.previous)} → "
            words.append(arrow + stage_name(self.stage))
        # What recovery tells names the attempt and the worker that was lost, who did nothing.
        if self.owner and self.owner not in (self.detail or ""):
            words.append(f"in attempt {self.attempt} by {self.owner}")
        if self.detail:
            words.append(f"({self.detail})")
        return " ".join(words)


def stage_name(code: int | None) -> str:
    """The name of a stage for people; of an unknown one, its number."""
    if code is None:
        return "?"
    info = STAGES.get(code)
    return info.name if info else f"stage {code}"
