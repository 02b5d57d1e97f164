"""What a worker is told about its stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pandora_db.codecs.checks import check_bool, check_int
from pandora_db.codecs.claim import check_seconds
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import refuse
from pandora_db.models.claim import Backoff, Limits
from pandora_db.models.stage import StageCode, stage_info
from pandora_db.runtime.context import JobContext

_HANDS = 1_000

Handler: TypeAlias = Callable[[JobContext], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One stage: from where jobs are taken, who works on them, and where they go on to.

    Attributes:
        waiting: where the jobs wait.
        working: where they are worked on.
        after: where they go when the work is done.
        handler: does the work.
        concurrency: how many at once in this worker.
        limits: how many at once over all workers.
        lease: seconds that a claim counts without a sign of life; None takes the setting.
        tags: what this worker offers.
        names: only jobs with one of these names; None takes any.
        timeout: seconds that an attempt may take.
        retry_in: seconds, or a `Backoff`, before another attempt; None takes the default.
        resumable: whether an attempt that was cut off may be made again.
        once: names of jobs for which it may not.
        checkpoint_every: seconds between two checkpoints that are not forced.
        progress_every: seconds between two writes of progress.
    """

    waiting: StageCode
    working: StageCode
    after: StageCode
    handler: Handler
    concurrency: int = 1
    limits: Limits | None = None
    lease: float | None = None
    tags: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    timeout: float | None = None
    retry_in: float | Backoff | None = None
    resumable: bool = True
    once: frozenset[str | None] = frozenset()
    checkpoint_every: float = 5.0
    progress_every: float = 1.0

    def __str__(self) -> str:
        return f"{stage_info(self.waiting).name} ({self.concurrency} at once)"

    def __post_init__(self) -> None:
        check_int(self.concurrency, "concurrency", 1, _HANDS)
        for field in ("lease", "timeout"):
            if (value := getattr(self, field)) is not None:
                _check_above_zero(value, field)
        for field in ("checkpoint_every", "progress_every"):
            check_seconds(getattr(self, field), field)
        if not isinstance(self.retry_in, Backoff | None):
            check_seconds(self.retry_in, "retry_in")
        if not isinstance(self.limits, Limits | None):  # pyright: ignore[reportUnnecessaryIsInstance]
            refuse("limits", self.limits, "Limits(…) or None")
        check_bool(self.resumable, "resumable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How workers of one process go about it (times in seconds).

    Attributes:
        poll: the longest pause between two looks for jobs, and for what is asked of them.
        grace: for a handler to meet a request by itself; then its task is cancelled.
        cancel_grace: for a cancelled task to end; then it is given up.
        shutdown_timeout: for everything to end; what remains is left to its lease.
        data_root: where each job may have a folder of its own.
        keep_data: how long the folder of a job that has ended stays; None for ever.
    """

    poll: float = 1.0
    grace: float = 10.0
    cancel_grace: float = 10.0
    shutdown_timeout: float = 30.0
    data_root: Path | None = None
    keep_data: float | None = None

    def __post_init__(self) -> None:
        if self.keep_data is not None:
            check_seconds(self.keep_data, "keep_data")
            if self.data_root is None:
                raise InvalidInput(
                    "keep_data was given without data_root; expected both", field="keep_data"
                )
        for field in ("grace", "cancel_grace", "shutdown_timeout"):
            check_seconds(getattr(self, field), field)
        _check_above_zero(self.poll, "poll")


def _check_above_zero(value: object, field: str) -> None:
    if check_seconds(value, field) == 0:
        raise InvalidInput(f"{field} is 0; expected a number of seconds above 0", field=field)
