"""`Claim`: a job in the hands of one worker, until it ends or is lost."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, ClassVar, NamedTuple, Self

from pydantic import Field

from pandora_db.errors import InvalidInput, LeaseLost
from pandora_db.models.base import InputModel
from pandora_db.models.status import Hold

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from pandora_db.models.checks import Json
    from pandora_db.models.job_row import JobRow
    from pandora_db.models.stage import StageCode

log = logging.getLogger("pandora_db")


class Claim:
    """What `claim_jobs` gives for each job: the right to write about it, proved by `token`.

    The lease behind it is renewed in the background for as long as this object is alive and the
    claim has not ended. Whoever drops it without ending it leaves the job to recovery.

    `async with claim:` cancels its body when the lease is lost, and then raises `LeaseLost`. It
    ends no claim: one that has not ended when its block is left goes on, with a warning in the log.
    A claim that has ended or was lost, as by closing its handle, is refused with `LeaseLost`.

    Attributes:
        job: the row as it was claimed.
        token: compared by every write under this claim; never given out twice for a job.
        stage: the working stage that it was claimed into.
        lease: seconds that the lease lasts after each renewal.
        owner: the worker, that is the handle, that made the claim.
        hold: what was asked of the job, as of the last renewal: a pause, a cancellation.
        listener: called in the event loop when `hold` has changed or the claim was lost.
    """

    __slots__ = (
        "__weakref__", "_body", "_ended", "_lost", "_stopped",
        "hold", "job", "lease", "listener", "owner", "stage", "token",
    )  # fmt: skip

    def __init__(self, job: JobRow, token: int, stage: StageCode, owner: str, lease: float) -> None:
        self.job = job
        self.token = token
        self.stage = stage
        self.owner = owner
        self.lease = lease
        self.hold = Hold.NONE if job.hold == 0 else Hold(job.hold)
        self.listener: Callable[[], object] | None = None
        self._lost: str | None = None
        self._ended = False
        self._body: asyncio.Task[object] | None = None
        self._stopped = False  # the body was cancelled by us

    @property
    def job_id(self) -> int:
        """The job."""
        return self.job.job_id

    @property
    def attempt(self) -> int:
        """Which attempt at its stage this is, from 1; snoozed and released ones do not count."""
        return self.job.attempt

    @property
    def lost(self) -> bool:
        """Whether the claim is known not to count any more, without having been ended."""
        return self._lost is not None

    @property
    def ended(self) -> bool:
        """Whether it was finished, failed, snoozed or released."""
        return self._ended

    @property
    def alive(self) -> bool:
        """Whether it has neither ended nor been lost, as far as is known."""
        return not self._ended and self._lost is None

    @property
    def _is_open(self) -> bool:
        """Whether nobody has ended it, or is about to."""
        return self.alive

    def error(self) -> LeaseLost:
        """The error that says why it is lost."""
        return LeaseLost(self.job_id, self.token, self._lost or "it has ended")

    def lose(self, reason: str) -> None:
        """Note that the claim is lost, in the event loop; for whoever meets `LeaseLost` first."""
        if not self.alive:
            return
        self._lost = reason
        if self._body is not None and self._body is not asyncio.current_task():
            self._stopped = self._body.cancel(f"the claim on job {self.job_id} was lost: {reason}")
        if self.listener is not None:
            self.listener()

    async def __aenter__(self) -> Self:
        if self._lost is not None or self._ended:
            raise self.error()
        if self._body is not None:
            raise InvalidInput("this claim guards another block already", field="claim")
        self._body = asyncio.current_task()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        body, self._body = self._body, None
        if self._lost is None or body is None:
            if error is None and self._is_open:
                log.warning(
                    "the block of the claim on job %d was left, and the claim has not ended: its "
                    "lease is renewed for as long as the claim is kept; finish, fail, snooze or "
                    "release it",
                    self.job_id,
                )
            return
        # As asyncio.timeout does: our own cancellation becomes an error, another one goes on.
        if self._stopped:
            others = body.uncancel()
            if not isinstance(error, asyncio.CancelledError):
                with suppress(asyncio.CancelledError):  # ours, which no await of the body met
                    await asyncio.sleep(0)
            elif others:
                return
        if error is None or (isinstance(error, asyncio.CancelledError) and self._stopped):
            raise self.error() from error

    def __repr__(self) -> str:
        state = "ended" if self._ended else f"lost: {self._lost}" if self._lost else "held"
        return f"<Claim on job {self.job_id} at {self.stage.name}, attempt {self.attempt}, {state}>"


class Finish(NamedTuple):
    """The end of one claim among many: the arguments of `finish_job`, for `finish_jobs`."""

    claim: Claim
    stage: StageCode | int
    output: Json = None
    output_kind: str | None = None
    output_file: str | os.PathLike[str] | None = None


class Limits(InputModel):
    """How many jobs may be at one working stage at once, over all workers of the database.

    Give every worker of a stage the same limits: each counts all jobs that are at work there.

    Attributes:
        stage: in all.
        concurrency_key: with the same `concurrency_key`; jobs without one do not count.
        author: of the same author, by `author_id`, or by name where there is none.
        guild: of the same `guild_id`; jobs without one do not count.
    """

    stage: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    concurrency_key: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    author: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None
    guild: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] | None = None

    expected: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("stage", "concurrency_key", "author", "guild"), "an int from 1 to 1000000, or None"
    )


class Backoff(InputModel):
    """How long a job waits after a failed attempt: `first`, then longer each time, with jitter.

    Attributes:
        first: seconds after the first attempt.
        factor: by which the wait grows with each further attempt.
        most: the longest wait, in seconds.
        jitter: part of the wait that is left to chance, 0 … 1: jobs that failed together should not
            come back together.
    """

    first: Annotated[float, Field(strict=True, ge=0, le=31_536_000, allow_inf_nan=False)] = 10.0
    factor: Annotated[float, Field(strict=True, ge=1, le=100, allow_inf_nan=False)] = 2.0
    most: Annotated[float, Field(strict=True, ge=0, le=31_536_000, allow_inf_nan=False)] = 3600.0
    jitter: Annotated[float, Field(strict=True, ge=0, le=1, allow_inf_nan=False)] = 0.25

    expected: ClassVar[Mapping[str, str]] = {
        "first": "a number of seconds from 0 to 31536000 (a year)",
        "factor": "a number from 1 to 100",
        "most": "a number of seconds from 0 to 31536000 (a year)",
        "jitter": "a number from 0 to 1",
    }

    def wait(self, attempt: int, chance: float) -> float:
        """Seconds to wait after attempt number `attempt`; `chance` is 0 … 1."""
        growth = self.factor ** min(attempt - 1, 64)  # no power too large for a float
        wait = self.first * growth * (1 + self.jitter * (2 * chance - 1))
        return min(wait, self.most)
