"""The reader of a handle: it hands what happens to jobs to those who watch or seek jobs.

It looks for new events when something rings and, because a ring may be lost, at intervals. It hands
each window of events to those who listen. A watcher that is slow or has just come reads from its
own place in the history until it is where the reader is, so nobody's queue grows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING
from weakref import WeakSet

from pandora_db.drivers.base import Driver
from pandora_db.errors import PASSING, HandleClosed, PandoraDbError
from pandora_db.models.event import EventKind
from pandora_db.services.seeker import Seeker
from pandora_db.services.seen import Seen, decode

if TYPE_CHECKING:
    from pandora_db.services.watch import Watch

log = logging.getLogger("pandora_db")

Heard = Callable[[EventKind | None], object]

WINDOW = 1000
"""Events that are read at once, and that may wait for a watcher."""
SOON, LATER = 0.05, 1.0  # seconds between the attempts to reach a database that is away
_ATTENTIVE = 0.2  # seconds between two calls of those who attend


class Lookout:
    """The reader of a handle; it runs as long as somebody watches."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.mark = ""
        self._watches: WeakSet[Watch] = WeakSet()
        self.seekers: list[Seeker] = []
        self.resting = False
        self._behind = False  # whether the last look left anything that was there
        self._passed = False  # whether anything went by unread
        self._followers: dict[int, list[Heard]] = {}
        self._attendants: list[tuple[Callable[[], None], float]] = []
        self._attending: asyncio.TimerHandle | None = None
        self._attended = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._askers: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._rung = asyncio.Event()
        self._closed = False
        self._origin: str | None = None

    def seek(self, stages: Iterable[int], call: Callable[[], None]) -> Seeker:
        """Have `call` called when a job may have become claimable at these stages, until `end`.

        A job whose time comes later (`not_before`, a retry with a delay) is told of when it is put
        off, not when it is due.
        """
        self.driver.guard.check("seek")
        self._start()
        seeker = Seeker(self, frozenset(stages), call)
        self.seekers.append(seeker)
        return seeker

    def follow(self, job_id: int, call: Heard) -> Callable[[], None]:
        """Have `call` called with the kind of each event of a job, until undone.

        Each that is committed from now on; with None where it cannot be said which there were,
        and when the handle is closed: `check` then raises.
        """
        self.driver.guard.check("follow")
        self._start()
        self._followers.setdefault(job_id, []).append(call)
        if self.resting:
            self.ring()
        return partial(self._unfollow, job_id, call)

    def attend(self, call: Callable[[], None], every: float) -> Callable[[], None]:
        """Have `call` called when something may have happened, a few times a second at most.

        While everything passes unread, that may be at any time: it is called each `every` seconds.
        """
        self.driver.guard.check("attend")
        self._start()
        attendant = (call, every)
        self._attendants.append(attendant)
        if self.resting:
            self.ring()
        return partial(self._leave_off, attendant)

    def check(self) -> None:
        """Raise `HandleClosed` when nobody is told of anything any more."""
        if self._closed:
            raise HandleClosed("watch was called on a handle that is closed")

    def tell(self, job_id: int) -> None:
        """Call those who follow a job: something changed that is no event."""
        for call in tuple(self._followers.get(job_id, ())):
            call(None)

    def ring(self) -> None:
        """Something may have happened."""
        self._rung.set()

    def hear(self, stages: Collection[int] | None) -> None:
        """Jobs came to these stages, and no more happened; None where that is not known.

        Who seeks jobs there is told at once; nothing need be read unless somebody watches.
        """
        if stages is None:
            self.ring()
            return
        for seeker in self.seekers:
            if not seeker.stages.isdisjoint(stages):
                seeker.hear()
        self._tell_attendants()
        if self._watches or self._followers or self._askers:
            self.ring()
        else:
            self._passed = True

    async def admit(self, watch: Watch) -> None:
        """Let `watch` hear; returns when the mark is at or behind all that is committed now."""
        self._watches.add(watch)
        asker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._askers.append(asker)
        self._start()
        self.ring()
        await asker

    def leave(self, watch: Watch) -> None:
        """Let `watch` hear no more; the reader ends when it was the last."""
        self._watches.discard(watch)
        self.ring()

    async def origin(self) -> str | None:
        """Which database this is; None when we may not ask."""
        if self._origin is None:
            ((may_ask,),) = await self.driver.read("watch_rights", {})
            if may_ask:
                ((self._origin,),) = await self.driver.read("watch_origin", {})
        return self._origin

    async def window(self, lower: str, bound: str | None) -> tuple[bool, bool, str]:
        """What follows a mark: whether anything does, whether more than a window, and its end."""
        args = {"lower": lower, "bound": bound, "limit": WINDOW}
        ((anything, more, upper, _),) = await self.driver.read("watch_window", args)
        while more:
            args = {"lower": lower, "upper": upper, "bound": bound}
            ((further,),) = await self.driver.read("watch_closure", args)
            if further is None:
                break
            upper = further
        return bool(anything), bool(more), upper

    async def close(self) -> None:
        """End: watchers hand out what they have, then stop."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for asker in self._askers:
            if not asker.done():
                asker.set_exception(HandleClosed("the handle was closed"))
        for timer in (self._attending, self._alarm):
            if timer is not None:
                timer.cancel()
        for watch in list(self._watches):
            watch.end()
        self._tell_followers(None)

    @property
    def _wanted(self) -> bool:
        return bool(
            self._watches or self.seekers or self._followers or self._attendants or self._askers
        )

    @property
    def _awaited(self) -> bool:
        """Whether anybody would be told of news: workers that have enough to do need not be."""
        return bool(self._watches or self._followers or self._askers) or any(
            one.seeking for one in self.seekers
        )

    def _unfollow(self, job_id: int, call: Heard) -> None:
        calls = self._followers[job_id]
        calls.remove(call)
        if not calls:
            del self._followers[job_id]
            if not self._followers:
                self.ring()

    def _leave_off(self, attendant: tuple[Callable[[], None], float]) -> None:
        self._attendants.remove(attendant)
        self.ring()

    def _start(self) -> None:
        self.check()
        if self._task is None or self._task.done():
            # Not in the caller's context, which may later be that of an open transaction.
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), context=Context())

    async def _run(self) -> None:
        while self._wanted:  # somebody may come while the bell is put away
            self.mark = ""
            try:
                await self._serve()
            except Exception as error:  # nothing to look by: whoever waits must not wait for ever
                log.exception("watching failed; beginning anew")
                askers, self._askers = self._askers, []
                _answer(askers, PandoraDbError(f"nothing can be watched: {error}"))
                await asyncio.sleep(LATER)

    async def _serve(self) -> None:
        bell = self.driver.bell(self.hear)
        try:
            failures = 0
            found = False
            while self._wanted:
                await self._rest()
                askers, self._askers = self._askers, []
                self._rung.clear()
                try:
                    news = await self._look()
                except PASSING as error:
                    self._askers = askers + self._askers
                    if not failures:
                        log.warning("watching: %s; looking again", error)
                    failures += 1
                    await asyncio.sleep(min(SOON * 2 ** min(failures, 10), LATER))
                except PandoraDbError as error:
                    if not askers and not failures:
                        log.warning("watching: %s; looking again", error)
                    failures += 1
                    _answer(askers, error)
                    await asyncio.sleep(LATER)
                except Exception:  # one look may fail, not all that follow
                    log.exception("watching failed; looking again")
                    self._askers = askers + self._askers
                    await asyncio.sleep(LATER)
                else:
                    failures = 0
                    self._admit(askers)  # at once: there may be news for ever
                    found |= news
                    if self._behind:
                        continue
                    bell.looked(news=found)
                    found = False
                    if self._wanted:
                        await self._rung.wait()
        finally:
            await bell.close()

    def _admit(self, askers: list[asyncio.Future[None]]) -> None:
        if self._behind:
            self._askers = askers + self._askers
        else:
            _answer(askers, None)

    async def _rest(self) -> None:
        """Let everything pass while all workers are busy and nobody watches."""
        while self._wanted and not self._awaited:
            self.resting = True
            self._rung.clear()
            self._wind()
            await self._rung.wait()
            self._tell_attendants()
            if not self._awaited:
                self.mark = ""  # something went by unread
        self.resting = False

    def _wind(self) -> None:
        """Ring in a while, for those who attend: what is not looked for may not be told of."""
        if self._attendants and self._alarm is None:
            pause = min(every for _, every in self._attendants)
            self._alarm = asyncio.get_running_loop().call_later(pause, self._ring_alarm)

    def _ring_alarm(self) -> None:
        self._alarm = None
        self.ring()

    async def _look(self) -> bool:
        """Hand out the next window; whether there was one."""
        self._behind = False
        passed, self._passed = self._passed, False
        watched = bool(self._watches or self._followers)
        try:
            if not self.mark or (passed and watched):
                return await self._begin_now()
            look = self._look_for_events if watched else self._look_for_stages
            return await look(self.mark)
        except BaseException:
            self._passed |= passed
            raise

    async def _begin_now(self) -> bool:
        ((self.mark,),) = await self.driver.read("watch_now", {})
        for seeker in self.seekers:
            seeker.hear()
        self._tell_followers(None)
        self._tell_attendants()
        return False

    async def _look_for_events(self, lower: str) -> bool:
        anything, self._behind, upper = await self.window(lower, None)
        if not anything:
            return False
        args = {"lower": lower, "upper": upper, "limit": 2 * WINDOW + 1}
        rows = await self.driver.read("watch_events", args)
        seen = None if len(rows) > 2 * WINDOW else [decode(row) for row in rows]
        self.mark = upper
        for watch in self._watches:
            watch.hear(lower, upper, seen)
        for seeker in self.seekers:
            if seen is None or any(one.event.stage in seeker.stages for one in seen):
                seeker.hear()
        self._tell_followers(seen)
        self._tell_attendants()
        return True

    def _tell_followers(self, seen: Sequence[Seen] | None) -> None:
        if seen is None:
            for job_id in tuple(self._followers):
                self.tell(job_id)
        elif self._followers:
            for one in seen:
                for call in tuple(self._followers.get(one.event.job_id, ())):
                    call(one.event.kind)

    async def _look_for_stages(self, lower: str) -> bool:
        """The same where workers alone are told: where something happened is all they need."""
        args: dict[str, object] = {"lower": lower, "bound": None, "limit": WINDOW}
        ((anything, more, upper, stages),) = await self.driver.read("watch_window", args)
        if more:  # as if it had begun now
            self.mark = ""
            self._behind = True
            return True
        if anything:
            self.mark = upper
            found = {int(stage) for stage in (stages or "").split(",") if stage}
            for seeker in self.seekers:
                if not seeker.stages.isdisjoint(found):
                    seeker.hear()
            self._tell_followers(None)  # who came while this was read, and passed over since
            self._tell_attendants()
        return bool(anything)

    def _tell_attendants(self) -> None:
        """Call those who attend, now or when the last time is long enough ago."""
        if not self._attendants or self._attending is not None:
            return
        loop = asyncio.get_running_loop()
        due = max(loop.time(), self._attended + _ATTENTIVE)
        self._attending = loop.call_at(due, self._call_attendants)

    def _call_attendants(self) -> None:
        self._attending = None
        self._attended = asyncio.get_running_loop().time()
        for call, _ in self._attendants:
            call()


def _answer(askers: Iterable[asyncio.Future[None]], error: PandoraDbError | None) -> None:
    for asker in askers:
        if asker.done():
            continue
        if error is None:
            asker.set_result(None)
        else:
            asker.set_exception(error)
