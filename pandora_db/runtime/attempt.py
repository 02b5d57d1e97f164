"""One attempt: a claim, the task of its handler, and what becomes of both."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, cast

from pandora_db.codecs.checks import clean_error
from pandora_db.errors import ExecutionFailed, Interrupted, LeaseLost, PandoraDbError
from pandora_db.models.status import Hold
from pandora_db.runtime.attempt_log import log_raised, log_stopped
from pandora_db.runtime.context import JobContext
from pandora_db.runtime.endings import LEFT, end_claim, failing
from pandora_db.runtime.outcomes import Done, Fail, Outcome, read_outcome
from pandora_db.runtime.passing import FIRST_PAUSE, next_pause, passes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context

    from pandora_db.db import JobDb
    from pandora_db.models.claim import Claim
    from pandora_db.runtime.data_dirs import DataDirs
    from pandora_db.runtime.hands import Hand
    from pandora_db.runtime.work import Terms, Work

log = logging.getLogger("pandora_db")


class _Phase(Enum):
    WORKING = 1
    ASKED = 2  # to stop by itself
    CUT = 3  # its task was cancelled
    ENDING = 4  # the handler has ended, or was given up; what that means is being written


@dataclass(frozen=True, slots=True)
class Post:
    """What the attempts of a worker have in common.

    Attributes:
        db: the handle.
        work: the stage.
        terms: how long a handler has.
        dirs: the folders of the jobs.
        context: the worker's own; in that of a handler, the next ones would inherit from it.
        on_returned: called in the handler's task when it has returned and was asked for nothing:
            the attempt is over, and its end is the worker's to write.
        on_over: called when any other attempt is over, its end written.
    """

    db: JobDb
    work: Work
    terms: Terms
    dirs: DataDirs | None
    context: Context
    on_returned: Callable[[Attempt, Done], None]
    on_over: Callable[[Attempt], None]


class Attempt:
    """Runs a handler in a task of its own and looks after it until it has ended, or is given up.

    Requests, the loss of the claim and timers come as callbacks: most handlers meet none. The end
    of one that returns, was asked for nothing and told nothing is left to the worker, which writes
    many together; that of all others is written in a task of its own. A handler that goes on after
    it was cancelled is given up: the attempt has failed, and nothing that it still writes counts.

    Attributes:
        claim: the claim.
        hand: what it has of its worker's hands.
        task: what is under way: the handler, or the writing of its end.
        outcome: what the handler's end meant; None when the job is given back, was lost, or the end
            is the worker's to write.
        left: the task of a handler that was given up.
    """

    __slots__ = (
        "_began", "_ctx", "_late", "_loop", "_phase", "_post", "_refusing", "_resumable",
        "_stopping", "_timer", "_was_cut",
        "claim", "hand", "left", "outcome", "task",
    )  # fmt: skip

    def __init__(self, post: Post, claim: Claim, hand: Hand) -> None:
        work = post.work
        self.claim = claim
        self.hand = hand
        self.outcome: Outcome | None = None
        self.left: asyncio.Task[object] | None = None
        self._post = post
        self._loop = loop = asyncio.get_running_loop()
        self._resumable = work.resumable and claim.job.name not in work.once
        self._phase = _Phase.WORKING
        self._late = False  # it took longer than it may
        self._was_cut = False
        self._stopping = False
        self._refusing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began = loop.time()
        self._ctx = JobContext(
            post.db, claim,
            checkpoint_every=work.checkpoint_every,
            progress_every=work.progress_every,
            dirs=post.dirs,
            hand=hand,
        )  # fmt: skip
        if claim.hold is Hold.CANCEL:  # asked for between two attempts: nothing is begun
            self._conclude()
            return
        claim.listener = self._hear
        self.task: asyncio.Task[object] = loop.create_task(self._run(), name=f"job {claim.job_id}")
        self.task.add_done_callback(self._handler_ended)
        if work.timeout is not None:
            self._set_timer(work.timeout)
        if claim.hold is not Hold.NONE or claim.lost:
            self._look()

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return self._loop.time() - self._began

    def stop(self) -> None:
        """Have the handler stop, as the worker shuts down."""
        self._stopping = True
        self._look()

    def cut(self) -> None:
        """Cancel the handler now."""
        if self._is_at_work and not self._was_cut:
            self._was_cut = True
            self._phase = _Phase.CUT
            self._set_timer(self._post.terms.cancel_grace)
            self.task.cancel()

    def give_up(self) -> None:
        """Go on without the handler, if it was cancelled and goes on: the attempt has failed."""
        if self._is_at_work and self._phase is _Phase.CUT:
            log.error("job %d: its handler went on after it was cancelled", self.claim.job_id)
            self._let_go()
            # It may be at it still: what must not be begun again must not be tried again.
            final = not self._resumable
            self.outcome = Fail("the handler went on after it was cancelled", final=final)
            self._conclude()

    def hurry(self) -> None:
        """Let the end of the job wait no longer for what was told last."""
        if self._ctx.told is not None:
            self._ctx.told.hurry()

    def leave(self) -> bool:
        """Leave the job to its lease; whether there is still something under way to wait for."""
        if self._phase is _Phase.ENDING:
            self.task.cancel()
            self.task.add_done_callback(lambda _: self.claim.lose(LEFT))
            return True
        self._let_go()
        self.claim.lose(LEFT)
        return False

    @property
    def _is_at_work(self) -> bool:
        return self._phase is not _Phase.ENDING and not self.task.done()

    async def _run(self) -> object:
        try:
            value = await self._post.work.handler(self._ctx)
        except SystemExit as error:  # it would end the program
            raise ExecutionFailed(f"the handler called sys.exit({error.code!r})") from error
        if self._phase is not _Phase.WORKING or self.task.cancelling():
            return value
        outcome = read_outcome(value)
        if isinstance(outcome, Done) and self._ctx.told is None and not self.claim.lost:
            self.task.remove_done_callback(self._handler_ended)  # it would cost a turn of the loop
            self._unwatch()
            self._post.on_returned(self, outcome)
        return value

    def _handler_ended(self, task: asyncio.Task[object]) -> None:
        if task is not self.left:
            self._conclude(task)

    def _conclude(self, ended: asyncio.Task[object] | None = None) -> None:
        """Have the end written in a task of its own, which nobody else can cancel."""
        self._unwatch()
        self.task = self._loop.create_task(self._read_and_write(ended))
        self.task.add_done_callback(lambda _: self._post.on_over(self))

    async def _read_and_write(self, ended: asyncio.Task[object] | None) -> None:
        with failing(self.claim):
            if ended is not None:
                self.outcome = self._read(ended)
            told = self._ctx.told
            try:
                at = await end_claim(
                    self._post.db, self.claim, self.outcome, self._post.work, told=told
                )
            finally:
                if told is not None:
                    told.drop()
            if self.outcome is None and at is not None:
                log_stopped(self.claim, at, begun=ended is not None)

    def _hear(self) -> None:
        """Not at once: the handler itself may have met the news, in a step that goes on."""
        self._loop.call_soon(self._look, context=self._post.context)

    def _look(self) -> None:
        """See what was asked of the job meanwhile."""
        if not self._is_at_work:
            return
        hold = Hold.NONE if self.claim.ended else self.claim.hold  # the job is not ours any more
        if self.claim.lost:
            self.cut()
        elif hold is Hold.CANCEL:
            self._ask("cancel")
        elif hold is Hold.PAUSE and not self._resumable:
            self._refuse_pause()
        elif hold is Hold.PAUSE:
            self._ask("pause")
        elif self._resumable and self._stopping:
            self._ask("shutdown")

    def _refuse_pause(self) -> None:
        """Take the request back, on the record: it would stand there and never be met."""
        if self._refusing is None:
            self._refusing = self._loop.create_task(self._take_back())

    async def _take_back(self) -> None:
        pause = FIRST_PAUSE
        while self.claim.alive:
            try:
                if not await self._post.db.renew_claims([self.claim]):
                    break  # the job is not ours any more, and may be paused
                await self._post.db.resume_job(self.claim.job_id)
                await self._post.db.renew_claims([self.claim])
            except PandoraDbError as error:
                if pause == FIRST_PAUSE or not passes(error):
                    told = "the pause of job %d was not taken back: %s"
                    log.warning(told, self.claim.job_id, error)
                if not passes(error):
                    self._refusing = None
                    return
                await asyncio.sleep(pause)
                pause = next_pause(pause)
            else:
                log.warning("job %d is not resumable: it is not paused", self.claim.job_id)
                break
        self._refusing = None
        self._hear()  # it may have been paused once more

    def _ask(self, reason: str) -> None:
        self._ctx.interrupt(reason)
        if self._phase is _Phase.WORKING:
            self._phase = _Phase.ASKED
            self._set_timer(self._post.terms.grace)

    def _set_timer(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._time_is_up)

    def _time_is_up(self) -> None:
        if not self._is_at_work:
            return
        if self._phase is _Phase.CUT:
            self.give_up()
        else:
            self._late = self._phase is _Phase.WORKING
            self.cut()

    def _unwatch(self) -> None:
        """The handler has ended: what is asked from now on comes too late."""
        self._phase = _Phase.ENDING
        self.claim.listener = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._refusing is not None:
            self._refusing.cancel()

    def _read(self, task: asyncio.Task[object]) -> Outcome | None:
        """What the handler's end means; None gives the job back."""
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            ended = read_outcome(task.result())
            # When it was cut for being late, it has failed; how, it may say.
            if not self._late or isinstance(ended, Fail):
                self._warn_of_caught(ended)
                return ended
        outcome = self._read_error(error)
        if isinstance(outcome, Fail):  # a bug, more often than not: where it happened is told
            log_raised(self.claim, outcome, error)
        return outcome

    def _warn_of_caught(self, ended: Outcome) -> None:
        """Warn where what the handler returned takes the place of what was asked."""
        asked = self._ctx.stopped_for
        if asked is None:
            return
        is_cancelled = not (isinstance(ended, Done) and self._post.work.after.terminal)
        if asked == "cancel" and is_cancelled:
            return
        log.warning(
            "job %d: its handler caught Interrupted, for a %s, and returned %s, which counts; "
            "let Interrupted pass, and the job %s",
            self.claim.job_id, asked, type(ended).__name__,
            "is cancelled" if asked == "cancel" else "waits and goes on later",
        )  # fmt: skip

    def _read_error(self, error: BaseException | None) -> Outcome | None:
        if self._late:
            late = f"the attempt took longer than {self._post.work.timeout:g} s"
            return Fail(ExecutionFailed(late), final=not self._resumable)
        if error is not None:
            lost: str | None = None
            for leaf in _leaves(error):
                if isinstance(leaf, LeaseLost) and leaf.token == self.claim.token:
                    lost = leaf.reason
                elif not isinstance(leaf, Interrupted | asyncio.CancelledError):
                    return Fail(error)
            if lost is not None:
                self.claim.lose(lost)
                return None
        interrupted = self._ctx.interrupted is not None
        if not interrupted and self._stopping and not self._resumable:
            return Fail(Interrupted("shutdown"), final=True)
        if interrupted or self._was_cut:
            return None
        raised = "CancelledError" if error is None else clean_error(error)
        itself = f"the handler stopped itself, and nobody had asked it to (it raised {raised})"
        return Fail(ExecutionFailed(itself))

    def _let_go(self) -> None:
        """Wait for the handler no longer."""
        self._unwatch()
        self.task.cancel()
        self.left = self.task
        self.left.add_done_callback(_seen)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of a group, as a `TaskGroup` raises one, at any depth; of another, itself."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    group = cast("BaseExceptionGroup[BaseException]", error)
    for one in group.exceptions:
        yield from _leaves(one)


def _seen(task: asyncio.Task[object]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        level = logging.DEBUG if isinstance(error, PandoraDbError) else logging.WARNING
        log.log(level, "%s, which was given up, ended: %s", task.get_name(), type(error).__name__)
