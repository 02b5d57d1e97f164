"""What the handler of a job said."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import NamedTuple

from pandora_db.models.event import stage_name

MAX_LEVEL = 100


class LogLine(NamedTuple):
    """A line that is to be kept.

    Attributes:
        message: what was said.
        level: as in `logging`, 0 … 100.
        age: seconds since it was said.
    """

    message: str
    level: int = logging.INFO
    age: float = 0.0


class JobLog(NamedTuple):
    """A line of a job's log.

    Attributes:
        job_id: the job.
        seq: 1, 2, 3 … per job; those of lines that are not kept any more are missing.
        at: when it was said, by the database's clock (aware).
        level: as in `logging`.
        attempt: at which attempt.
        stage: the code of the stage at which the job was.
        message: what was said.
    """

    job_id: int
    seq: int
    at: datetime
    level: int
    attempt: int
    stage: int | None
    message: str

    def __str__(self) -> str:
        at = self.at.isoformat(sep=" ", timespec="milliseconds")
        level = logging.getLevelName(self.level).lower()
        return f"{at} {level} {stage_name(self.stage)} {self.attempt}: {self.message}"
