"""The status of a job, derived from the kind of its stage and its hold; never stored."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from pandora_db.errors import UnknownCode
from pandora_db.models.stage import StageKind, stage_info


class Hold(IntEnum):
    """What the user asked of a job that is not carried out yet; stored in `jobs.hold`."""

    NONE = 0
    PAUSE = 1
    CANCEL = 2

    @classmethod
    def _missing_(cls, value: object) -> Hold:
        raise UnknownCode("hold", value, "0 NONE, 1 PAUSE, 2 CANCEL")


class JobStatus(StrEnum):
    """What people want to know about a job, whatever its pipeline."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})

_STATUS = {
    StageKind.DRAFT: JobStatus.QUEUED,
    StageKind.WAITING: JobStatus.QUEUED,
    StageKind.WORKING: JobStatus.RUNNING,
    StageKind.DONE: JobStatus.COMPLETED,
    StageKind.FAILED: JobStatus.FAILED,
    StageKind.CANCELLED: JobStatus.CANCELLED,
}


def status_of(stage: int, hold: int = 0) -> JobStatus:
    """The status of a job at `stage` with `hold`.

    A waiting job that is held for a pause is paused; one that a worker has in hand is running until
    the worker meets the request.

    Raises:
        UnknownCode: nobody knows that stage or hold.
    """
    info = stage_info(stage)
    if Hold(hold) is Hold.PAUSE and info.kind in (StageKind.DRAFT, StageKind.WAITING):
        return JobStatus.PAUSED
    return _STATUS[info.kind]
