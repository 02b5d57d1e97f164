"""One attempt: a claim, the task of its handler, and what becomes of both."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from enum import Enum
from typing import TYPE_CHECKING

from pandora_db.codecs.checks import clean_error
from pandora_db.errors import ExecutionFailed, Interrupted, LeaseLost, PandoraDbError
from pandora_db.models.status import Hold
from pandora_db.runtime.context import JobContext
from pandora_db.runtime.endings import end_claim
from pandora_db.runtime.failures import log_raised
from pandora_db.runtime.outcomes import Fail, Outcome, read_outcome

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.models.claim import Claim
    from pandora_db.runtime.hands import Hand
    from pandora_db.runtime.work import Terms, Work

log = logging.getLogger("pandora_db")


class _Phase(Enum):
    WORKING = 1
    ASKED = 2  # to stop by itself
    CUT = 3  # its task was cancelled


class Attempt:
    """Runs a handler in a task of its own and looks after it until it has ended, or is given up.

    A handler that goes on after it was cancelled is given up: the attempt has failed, and nothing
    that it still writes counts.

    Attributes:
        claim: the claim.
        hand: what it has of its worker's hands.
        outcome: what the handler's end meant; None when the job is given back, or was lost.
        left: the task of a handler that was given up.
    """

    def __init__(self, db: JobDb, claim: Claim, work: Work, terms: Terms, hand: Hand) -> None:
        self.claim = claim
        self.hand = hand
        self.left: asyncio.Task[object] | None = None
        self._db = db
        self._work = work
        self._terms = terms
        self._resumable = work.resumable and claim.job.name not in work.once
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._phase = _Phase.WORKING
        self._due: float | None = None
        self._late = False  # it took longer than it may
        self._stopping = False
        self._refusing: asyncio.Task[None] | None = None
        self._ctx: JobContext | None = None
        self._task: asyncio.Task[object] | None = None
        self.outcome: Outcome | None = None
        self._began = self._loop.time()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return self._loop.time() - self._began

    def stop(self) -> None:
        """Have the handler stop, as the worker shuts down."""
        self._stopping = True
        self._news.set()

    def cut(self) -> None:
        """Cancel the handler now."""
        self._cut()

    async def run(self) -> None:
        """Make the attempt; a cancellation, which alone is raised, leaves the job to its lease."""
        self.claim.listener = self._news.set
        try:
            if self.claim.hold is Hold.CANCEL:  # asked for between two attempts: nothing is begun
                await end_claim(self._db, self.claim, None, self._work)
                return
            ctx, task = self._begin()
            await self._watch(ctx, task)
            await self._conclude(ctx, task)
        except asyncio.CancelledError:
            self._give_up()
            raise
        except Exception:
            log.exception("a worker failed on job %d; its lease runs out", self.claim.job_id)
            self._give_up()
        finally:
            self.claim.listener = None
            if self._refusing is not None:
                self._refusing.cancel()

    def _begin(self) -> tuple[JobContext, asyncio.Task[object]]:
        ctx = JobContext(
            self._db, self.claim,
            checkpoint_every=self._work.checkpoint_every,
            progress_every=self._work.progress_every,
            data_root=self._terms.data_root,
            hand=self.hand,
        )  # fmt: skip
        self._ctx = ctx
        self._task = task = self._loop.create_task(_call(self._work, ctx), name=f"job {ctx.job_id}")
        task.add_done_callback(lambda _: self._news.set())
        if self._phase is _Phase.CUT:
            task.cancel()
        elif self._work.timeout is not None:
            self._due = self._loop.time() + self._work.timeout
        return ctx, task

    async def _watch(self, ctx: JobContext, task: asyncio.Task[object]) -> None:
        while not task.done():
            self._look(ctx)
            if self._due is None:
                await self._news.wait()
            else:
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(self._due):
                        await self._news.wait()
            self._news.clear()
            if self._due is not None and self._due <= self._loop.time():
                if self._phase is _Phase.CUT:
                    return
                self._late = self._phase is _Phase.WORKING
                self._cut()

    def _look(self, ctx: JobContext) -> None:
        """See what was asked of the job meanwhile."""
        if self.claim.lost:
            self._cut()
        elif self.claim.hold is Hold.CANCEL:
            self._ask(ctx, "cancel")
        elif self.claim.hold is Hold.PAUSE and not self._resumable:
            self._refuse_pause()
        elif self.claim.hold is Hold.PAUSE:
            self._ask(ctx, "pause")
        elif self._resumable and self._stopping:
            self._ask(ctx, "shutdown")

    def _refuse_pause(self) -> None:
        """Take the request back, on the record: it would stand there and never be met."""
        if self._refusing is None:
            log.warning("job %d is not resumable: it is not paused", self.claim.job_id)
            self._refusing = self._loop.create_task(self._take_back())

    async def _take_back(self) -> None:
        try:
            await self._db.resume_job(self.claim.job_id)
            await self._db.renew_claims([self.claim])
        except PandoraDbError as error:
            log.warning("the pause of job %d was not taken back: %s", self.claim.job_id, error)
        finally:
            self._refusing = None

    def _ask(self, ctx: JobContext, reason: str) -> None:
        ctx.interrupt(reason)
        if self._phase is _Phase.WORKING:
            self._phase = _Phase.ASKED
            self._due = self._loop.time() + self._terms.grace

    def _cut(self) -> None:
        if self._phase is not _Phase.CUT:
            self._phase = _Phase.CUT
            self._due = self._loop.time() + self._terms.cancel_grace
            if self._task is not None:
                self._task.cancel()
            self._news.set()

    async def _conclude(self, ctx: JobContext, task: asyncio.Task[object]) -> None:
        claim = self.claim
        if task.done():
            self.outcome = self._read(ctx, task)
        else:
            self._give_up()
            log.error("job %d: its handler went on after it was cancelled", claim.job_id)
            self.outcome = Fail("the handler went on after it was cancelled")
        await ctx.close(lost=claim.lost)
        if claim.lost:
            log.info("job %d: %s", claim.job_id, claim.error())
        else:
            await end_claim(self._db, claim, self.outcome, self._work)

    def _read(self, ctx: JobContext, task: asyncio.Task[object]) -> Outcome | None:
        """What the handler's end means; None gives the job back."""
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return read_outcome(task.result())
        outcome = self._read_error(ctx, error)
        if isinstance(outcome, Fail):  # a bug, more often than not: where it happened is told
            log_raised(self.claim, outcome, error)
        return outcome

    def _read_error(self, ctx: JobContext, error: BaseException | None) -> Outcome | None:
        if self._late:
            return Fail(ExecutionFailed(f"the attempt took longer than {self._work.timeout:g} s"))
        if isinstance(error, LeaseLost) and error.token == self.claim.token:
            self.claim.lose(error.reason)
            return None
        if error is not None and not isinstance(error, Interrupted):
            return Fail(error)
        if ctx.interrupted is None and self._stopping and not self._resumable:
            return Fail(Interrupted("shutdown"), final=True)
        if ctx.interrupted is not None or self._phase is _Phase.CUT:
            return None
        raised = "CancelledError" if error is None else clean_error(error)
        itself = f"the handler stopped itself, and nobody had asked it to (it raised {raised})"
        return Fail(ExecutionFailed(itself))

    def _give_up(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self.left = self._task
            self.left.add_done_callback(_seen)


async def _call(work: Work, ctx: JobContext) -> object:
    try:
        return await work.handler(ctx)
    except SystemExit as error:  # it would end the program
        raise ExecutionFailed(f"the handler called sys.exit({error.code!r})") from error


def _seen(task: asyncio.Task[object]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        level = logging.DEBUG if isinstance(error, PandoraDbError) else logging.WARNING
        log.log(level, "%s, which was given up, ended: %s", task.get_name(), type(error).__name__)
