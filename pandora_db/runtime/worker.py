"""`Worker`: the loop that takes jobs of one stage to its handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from pandora_db.errors import HandleClosed, PandoraDbError
from pandora_db.runtime.ahead import Ahead
from pandora_db.runtime.attempt import Attempt, Post
from pandora_db.runtime.endings import LEFT, end_claim, failing, finish_claims
from pandora_db.runtime.hands import Hand, Hands
from pandora_db.runtime.outcomes import Done
from pandora_db.runtime.wake import Wake

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.models.claim import Claim
    from pandora_db.models.stage import StageCode
    from pandora_db.runtime.data_dirs import DataDirs
    from pandora_db.runtime.work import Handler, Terms, Work
    from pandora_db.services.seeker import Seeker

log = logging.getLogger("pandora_db")

_AT_ONCE = 1_000
"""Jobs of one claim."""
_POLICIES = 60.0
"""Seconds between two looks at what becomes of the jobs of a lost worker."""


class _End(NamedTuple):
    """What a handler that returned left to be written."""

    claim: Claim
    outcome: Done


class Worker:
    """Claims as many jobs as it has free hands, some more ahead, and makes an `Attempt` at each.

    When a handler returns, its hand goes to the next job while its end is written, with those of
    others. As many ends as there are hands may be under way; while jobs are short twice as many,
    since half are gathered while the others are written. A handler that waits for other jobs takes
    no hand meanwhile, so that its worker may do those. Handlers that were given up and go on take
    none either, as long as they are no more than there are hands; then the worker claims nothing
    until one of them ends.

    Attributes:
        work: the stage.
        wake: what it sleeps on.
        attempts: those that are under way.
    """

    def __init__(
        self,
        db: JobDb,
        work: Work,
        terms: Terms,
        *,
        on_change: Callable[[], None],
        on_done: Callable[[StageCode], None],
    ) -> None:
        self.work = work
        self.wake = Wake(terms.poll)
        self.attempts: set[Attempt] = set()
        self._db = db
        self._terms = terms
        self._on_change = on_change
        self._on_done = on_done
        self._hands = Hands(work.concurrency, self.wake.ring)
        # What waits counts against limits; lost with its worker, it has used up an attempt.
        none_ahead = work.limits is not None or not work.resumable or work.once
        self._ahead = Ahead(
            0 if none_ahead else work.concurrency, self._may_not_wait, self._give_back
        )
        self._policies: Mapping[StageCode | int | str, str] = {}
        self._policies_until = 0.0  # loop time
        self._max_attempts = db.settings.max_attempts
        self._left: set[asyncio.Task[object]] = set()
        self._news: list[bool] = []  # for the next turn: of each end, whether its job was done
        self._loop: asyncio.Task[None] | None = None
        self._seeker: Seeker | None = None
        self._post: Post | None = None
        self._context: Context | None = None
        self._stopping = False
        self._found_nothing = False
        self._more = True  # than were claimed; or a limit kept some back
        self._failing = False
        self._claiming = False
        self._to_write: list[_End] = []  # by the next writer
        self._writers: dict[asyncio.Task[bool], Sequence[_End]] = {}

    def start(self, seeker: Seeker, dirs: DataDirs | None) -> None:
        """Begin; `seeker` wakes it when a job comes to wait."""
        self._seeker = seeker
        self._context = copy_context()
        self._post = Post(
            self._db, self.work, self._terms, dirs, self._context,
            on_returned=self._returned, on_over=self._ended,
        )  # fmt: skip
        self._loop = asyncio.get_running_loop().create_task(
            self._run(seeker), name=f"worker {self.work.working.name}"
        )
        self._loop.add_done_callback(lambda _: self._on_change())

    def use_handler(self, handler: Handler) -> None:
        """Call another handler from the next job on."""
        self.work = replace(self.work, handler=handler)
        if self._post is not None:
            self._post = replace(self._post, work=self.work)

    @property
    def running(self) -> list[Claim]:
        """Those of the jobs that are worked on, until their ends are written."""
        ends = [*self._to_write, *chain.from_iterable(self._writers.values())]
        return [attempt.claim for attempt in self.attempts] + [end.claim for end in ends]

    @property
    def claims(self) -> list[Claim]:
        """Those of the jobs whose handlers are at work, and of those that wait for a hand."""
        return [attempt.claim for attempt in self.attempts] + self._ahead.claims

    def under_way(self) -> list[asyncio.Task[Any]]:
        """What has to end before it is over: attempts, writers, and claims that are given back.

        Ends that wait for the next turn of the loop get their writer now.
        """
        self._write_ends()
        claiming = [self._loop] if self._stopping and self._loop and not self._loop.done() else []
        attempts = [attempt.task for attempt in self.attempts]
        return [*claiming, *attempts, *self._writers, *self._ahead.giving]

    @property
    def over(self) -> bool:
        """Whether it claims no more and nothing is under way: stopped, or its handle closed."""
        return self._loop is not None and self._loop.done() and not (self.attempts or self._writing)

    @property
    def idle(self) -> bool:
        """Whether it looked, found nothing, and nothing is under way."""
        return self.settled and not self.attempts

    @property
    def settled(self) -> bool:
        """The same, but for handlers that wait for other jobs."""
        if not self._found_nothing or self._news or self.wake.rung:
            return False
        if self._ahead or self._ahead.giving or self._writing:
            return False
        return all(attempt.hand.is_lent for attempt in self.attempts)

    @property
    def free(self) -> int:
        """How many jobs it could begin now."""
        if len(self._left) >= self.work.concurrency:
            return 0
        ends = self.work.concurrency * (2 if self._ahead.pays else 1)
        return self._hands.free - max(self._writing - ends, 0)

    @property
    def _writing(self) -> int:
        return len(self._to_write) + sum(map(len, self._writers.values()))

    async def stop(self) -> None:
        """Claim nothing more, and ask every handler to stop.

        A claim that is under way comes to its end first, and is given back: see `under_way`.
        """
        self._stopping = True
        if self._seeker is not None:
            self._seeker.end()
        for attempt in self.attempts:
            attempt.stop()
        self.wake.ring()
        if self._loop is not None and not self._claiming:
            self._loop.cancel()
            await asyncio.wait([self._loop])
        self._ahead.give_up()

    def cut(self) -> None:
        """Cancel what is still under way."""
        for attempt in self.attempts:
            attempt.cut()

    def give_up(self) -> None:
        """Go on without the handlers that were cancelled and go on; what has ended is written."""
        for attempt in tuple(self.attempts):
            attempt.give_up()
            attempt.hurry()

    def leave(self) -> None:
        """Wait for nothing any more: what is still under way is left to its lease."""
        if self._loop is not None:
            self._loop.cancel()
        for writer in self._writers:
            writer.cancel()
        for attempt in tuple(self.attempts):
            log.warning("job %d is left to its lease", attempt.claim.job_id)
            if not attempt.leave():
                self._ended(attempt)
        for giving in self._ahead.giving:
            giving.cancel()

    async def _run(self, seeker: Seeker) -> None:
        while not self._stopping:
            self.wake.answer()
            seeker.answer()
            self._found_nothing = False
            await self._look_at_policies()
            wanted = self._wanted()
            if wanted <= 0:
                seeker.rest()
                self._more = True
                await self.wake.wait_ring()
                continue
            try:
                claims = await self._claim(wanted)
            except HandleClosed as error:
                log.warning("a worker ends: %s", error)
                return
            except PandoraDbError as error:
                self._note_failure(error)
                await self.wake.wait()
                continue
            except Exception:
                log.exception("a worker could not claim jobs")
                await self.wake.wait()
                continue
            if self._failing:
                self._failing = False
                log.info("jobs can be claimed for %s again", self.work.working.name)
            self._ahead.add(claims)
            if self._stopping:
                self._ahead.give_up()
                return
            self._begin_ahead()
            self._ahead.part_with()
            self._hands.pass_on()
            if claims:
                self.wake.found()
            self._found_nothing = not claims
            self._more = len(claims) == wanted or self.work.limits is not None
            self._on_change()
            if len(claims) < wanted:
                seeker.seek()
                await self.wake.wait()
            else:
                seeker.rest()

    async def _claim(self, wanted: int) -> list[Claim]:
        work = self.work
        self._hands.reserved = max(min(wanted, self.free), 0)
        self._claiming = True
        try:
            claims = await self._db.claim_jobs(
                work.waiting, into=work.working, limit=wanted, lease=work.lease, names=work.names,
                tags=work.tags, limits=work.limits,
            )  # fmt: skip
        except BaseException:
            self._hands.reserved = 0
            self._hands.pass_on()
            raise
        finally:
            self._claiming = False
        self._hands.reserved = 0  # each claim takes its own before anybody else can
        return claims

    async def _look_at_policies(self) -> None:
        """Before claims ahead: what becomes of a job that is lost with its worker."""
        loop = asyncio.get_running_loop()
        if not self._ahead.room or loop.time() < self._policies_until:
            return
        try:
            self._policies = await self._db.get_recovery_policies()
        except Exception as error:  # noqa: BLE001 - whatever it is, the claim meets it too
            log.debug("none are claimed ahead: the recovery policies are not known: %r", error)
            self._ahead.be_wary()
        else:
            self._policies_until = loop.time() + _POLICIES

    def _wanted(self) -> int:
        """How many jobs to claim: for free hands, and some ahead of need while jobs are short."""
        if len(self._left) >= self.work.concurrency:
            return 0
        wanted = max(self.free - len(self._ahead), 0) + self._ahead.room
        return min(wanted, _AT_ONCE)

    def _begin_ahead(self) -> None:
        if self._stopping or self._post is None:
            return
        for _ in range(self.free):
            claim = self._ahead.take()
            if claim is None:
                return
            self.attempts.add(Attempt(self._post, claim, Hand(self._hands)))

    def _may_not_wait(self, claim: Claim) -> bool:
        """Whether the job would fail, without having begun, if this process were lost now."""
        job = claim.job
        if job.attempt >= (job.max_attempts or self._max_attempts):
            return True
        if not self._policies:
            return False
        by_name = None if job.name is None else self._policies.get(job.name)
        return (by_name or self._policies.get(self.work.working)) == "fail"

    async def _give_back(self, claim: Claim) -> None:
        try:
            with failing(claim):
                await end_claim(self._db, claim, None, self.work)
        except asyncio.CancelledError:
            log.warning("job %d is left to its lease", claim.job_id)
            claim.lose(LEFT)
            raise
        finally:
            self.wake.ring()

    def _returned(self, attempt: Attempt, outcome: Done) -> None:
        """A handler has returned: its hand goes to the next job while the end is written."""
        self.attempts.remove(attempt)
        self._ahead.note(attempt.seconds)
        attempt.hand.end()
        self._to_write.append(_End(attempt.claim, outcome))
        if len(self._to_write) == 1:
            # Not in the context of the handler, which others would inherit.
            asyncio.get_running_loop().call_soon(self._write_ends, context=self._context)

    def _write_ends(self) -> None:
        """After some handlers: those that ended together are written together."""
        ends, self._to_write = self._to_write, []
        if not ends:
            return
        self._start_writer(self._write(ends), ends)
        self._begin_ahead()
        if self._more and self._wanted() > 0:
            self.wake.ring()

    def _start_writer(self, writing: Coroutine[Any, Any, bool], ends: Sequence[_End]) -> None:
        writer = asyncio.get_running_loop().create_task(writing)
        self._writers[writer] = ends
        writer.add_done_callback(self._written)

    async def _write(self, ends: Sequence[_End]) -> bool:
        """Write many ends together; those that it could not be done for get writers of their own.

        Returns whether any was written.
        """
        try:
            errors = await finish_claims(self._db, ends, self.work)
        except Exception as error:  # noqa: BLE001 - the fault of one, or each will meet it again
            log.debug("%d ends are written one by one: %r", len(ends), error)
            for end in ends:
                self._start_writer(self._write_alone(end, None), [end])
            return False
        for end, failed in zip(ends, errors, strict=True):
            if failed is not None:
                self._start_writer(self._write_alone(end, failed), [end])
        return None in errors

    async def _write_alone(self, end: _End, failed: PandoraDbError | None) -> bool:
        with failing(end.claim):
            await end_claim(self._db, end.claim, end.outcome, self.work, failed=failed)
        return not end.claim.lost

    def _written(self, writer: asyncio.Task[bool]) -> None:
        ends = self._writers.pop(writer)
        if writer.cancelled():
            for end in ends:
                log.warning("job %d is left to its lease", end.claim.job_id)
                end.claim.lose(LEFT)
        self._note_end(done=not writer.cancelled() and writer.result())

    def _ended(self, attempt: Attempt) -> None:
        self.attempts.remove(attempt)
        self._ahead.note(attempt.seconds)
        attempt.hand.end()
        if attempt.left is not None:
            self._left.add(attempt.left)
            attempt.left.add_done_callback(self._let_go)
        self._note_end(done=isinstance(attempt.outcome, Done))

    def _note_end(self, *, done: bool) -> None:
        self._news.append(done)
        if len(self._news) == 1:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        """After some ends that were written: hands are free, and jobs have come to wait."""
        done, self._news = self._news, []
        self._begin_ahead()
        if any(done):
            self._on_done(self.work.after)
        # What has not been done may wait again.
        if not all(done) or (self._more and self._wanted() > 0):
            self.wake.ring()
        self._on_change()

    def _let_go(self, task: asyncio.Task[object]) -> None:
        self._left.discard(task)
        self.wake.ring()

    def _note_failure(self, error: PandoraDbError) -> None:
        if not self._failing:
            log.warning("no jobs can be claimed for %s: %s", self.work.working.name, error)
        self._failing = True
