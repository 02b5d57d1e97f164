"""Watching what happens to jobs: one reader for each handle, any number of watchers.

The reader looks for new events when something rings and, because a ring may be lost, at intervals.
It hands each window of events to those who listen. A watcher that is slow or has just come reads
from its own place in the history until it is where the reader is, so nobody's queue grows.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from contextvars import Context
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple, Self
from weakref import WeakSet

from pandora_db.drivers.base import Bell, Driver, Row
from pandora_db.errors import (
    ConnectionFailed,
    HandleClosed,
    LockTimeout,
    PandoraDbError,
    PoolTimeout,
    StatementTimeout,
    TransactionAborted,
    UnknownCode,
)
from pandora_db.models.cursor import EventPlace, WatchCursor, decode_cursor, parse_cursor
from pandora_db.models.event import EventKind, JobEvent

log = logging.getLogger("pandora_db")

Heard = Callable[[EventKind | None], object]

WINDOW = 1000
"""Events that are read at once, and that may wait for a watcher."""
_PASSING = (ConnectionFailed, PoolTimeout, StatementTimeout, LockTimeout, TransactionAborted)
_SOON, _LATER = 0.05, 1.0  # seconds between the attempts to reach a database that is away


class _Seen(NamedTuple):
    """An event with the guild of its job and its place in a window."""

    event: JobEvent
    guild_id: int | None
    place: EventPlace


class Lookout:
    """The reader of a handle; it runs as long as somebody watches."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.mark = ""
        self._watches: WeakSet[Watch] = WeakSet()
        self._listeners: list[tuple[frozenset[int], Callable[[], None]]] = []
        self._followers: dict[int, list[Heard]] = {}
        self._askers: list[asyncio.Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._rung = asyncio.Event()
        self._closed = False
        self._news = 0.0  # when something was found last
        self._origin: str | None = None

    def watch(self, *, job_id: int | None, guild_id: int | None, after: str | None) -> Watch:
        """A watcher; it begins when it is first asked for an event."""
        if after is not None:
            decode_cursor(after)
        return Watch(self, job_id=job_id, guild_id=guild_id, after=after)

    def listen(self, stages: Iterable[int], call: Callable[[], None]) -> Callable[[], None]:
        """Have `call` called when a job may have become claimable at these stages, until undone.

        A job whose time comes later (`not_before`, a retry with a delay) is told of when it is put
        off, not when it is due.
        """
        listener = (frozenset(stages), call)
        self._start()
        self._listeners.append(listener)
        return partial(self._listeners.remove, listener)

    def follow(self, job_id: int, call: Heard) -> Callable[[], None]:
        """Have `call` called with the kind of each event of a job, until undone.

        Each that is committed from now on; with None where it cannot be said which there were,
        and when the handle is closed: `check` then raises.
        """
        self._start()
        self._followers.setdefault(job_id, []).append(call)
        return partial(self._unfollow, job_id, call)

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

    async def origin(self) -> str:
        """Which database this is."""
        if self._origin is None:
            ((self._origin,),) = await self.driver.read("watch_origin", {})
        assert self._origin is not None  # noqa: S101 - the column is NOT NULL
        return self._origin

    async def window(self, lower: str, bound: str | None) -> tuple[bool, bool, str]:
        """What follows a mark: whether anything does, whether more than a window, and its end."""
        args = {"lower": lower, "bound": bound, "limit": WINDOW}
        ((anything, more, upper),) = await self.driver.read("watch_window", args)
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
        for watch in list(self._watches):
            watch.end()
        self._tell_followers(None)

    @property
    def _wanted(self) -> bool:
        return bool(self._watches or self._listeners or self._followers or self._askers)

    def _unfollow(self, job_id: int, call: Heard) -> None:
        calls = self._followers[job_id]
        calls.remove(call)
        if not calls:
            del self._followers[job_id]
            if not self._followers:
                self.ring()

    def _start(self) -> None:
        self.check()
        if self._task is None or self._task.done():
            self.mark = ""
            # Not in the caller's context, which may later be that of an open transaction.
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), context=Context())

    async def _run(self) -> None:
        bell = self.driver.bell(self.ring)
        try:
            failures = 0
            while self._wanted:
                askers, self._askers = self._askers, []
                self._rung.clear()
                try:
                    while await self._look():
                        pass
                except _PASSING as error:
                    self._askers = askers + self._askers
                    if not failures:
                        log.warning("watching: %s; looking again", error)
                    failures += 1
                    await asyncio.sleep(min(_SOON * 2 ** min(failures, 10), _LATER))
                except PandoraDbError as error:
                    if not askers and not failures:
                        log.warning("watching: %s; looking again", error)
                    failures += 1
                    _answer(askers, error)
                    await asyncio.sleep(_LATER)
                except Exception:  # one look may fail, not all that follow
                    log.exception("watching failed; looking again")
                    self._askers = askers + self._askers
                    await asyncio.sleep(_LATER)
                else:
                    failures = 0
                    _answer(askers, None)
                    await self._wait(bell)
        finally:
            await bell.close()

    async def _look(self) -> bool:
        """Hand out the next window; whether there was one."""
        if not self.mark:
            ((self.mark,),) = await self.driver.read("watch_now", {})
            for _, call in self._listeners:
                call()
            self._tell_followers(None)
            return False
        lower = self.mark
        anything, _, upper = await self.window(lower, None)
        if not anything:
            return False
        args = {"lower": lower, "upper": upper, "limit": 2 * WINDOW + 1}
        rows = await self.driver.read("watch_events", args)
        seen = None if len(rows) > 2 * WINDOW else [_decode(row) for row in rows]
        self.mark = upper
        self._news = asyncio.get_running_loop().time()
        for watch in self._watches:
            watch.hear(lower, upper, seen)
        for stages, call in self._listeners:
            if seen is None or any(one.event.stage in stages for one in seen):
                call()
        self._tell_followers(seen)
        return True

    def _tell_followers(self, seen: Sequence[_Seen] | None) -> None:
        if seen is None:
            for job_id in tuple(self._followers):
                self.tell(job_id)
        elif self._followers:
            for one in seen:
                for call in tuple(self._followers.get(one.event.job_id, ())):
                    call(one.event.kind)

    async def _wait(self, bell: Bell) -> None:
        """Until it rings, or the bell says that there may be something."""
        loop = asyncio.get_running_loop()
        while self._wanted and not self._rung.is_set():
            try:
                async with asyncio.timeout(bell.pause(loop.time() - self._news)):
                    await self._rung.wait()
            except TimeoutError:
                with suppress(PandoraDbError):  # it shows again at the next look
                    if await bell.rang():
                        return


class Watch:
    """The events of one job, of one guild or of all, as they happen; made by `JobDb.watch`.

    `async with` begins at once, and ends at the end of the block; without it watching begins with
    the first event that is asked for, and ends when nothing refers to it any more. Only one task
    at a time may ask.
    """

    def __init__(
        self, lookout: Lookout, *, job_id: int | None, guild_id: int | None, after: str | None
    ) -> None:
        self._lookout = lookout
        self._job_id = job_id
        self._guild_id = guild_id
        self._after = after
        self._begun = False
        self._ended = False
        self._live = False  # whether what happens is heard, and need not be read
        self._ready: deque[tuple[_Seen, str, str]] = deque()
        self._fed = ""  # the mark up to which all is ready, or handed out
        self._upper: str | None = None  # of a window that is read in parts, and how far
        self._place: EventPlace | None = None
        self._at: tuple[str, str | None, EventPlace | None] = ("", None, None)
        self._origin = ""
        self._heard = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def cursor(self) -> str | None:
        """Where this watcher stands, for `db.watch(after=…)`; None before it has begun."""
        if not self._begun:
            return self._after
        dialect = self._lookout.driver.dialect
        if self._live and not self._ready:
            return str(WatchCursor(dialect, self._origin, self._fed))
        return str(WatchCursor(dialect, self._origin, *self._at))

    def __aiter__(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        async with self._turn:
            await self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    async def __anext__(self) -> JobEvent:
        async with self._turn:
            pause = _SOON
            while not self._ready:
                if self._ended:
                    raise StopAsyncIteration
                self._heard.clear()
                try:
                    await self._begin()
                    if self._live:
                        await self._heard.wait()
                    else:
                        await self._read()
                    pause = _SOON
                except _PASSING:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, _LATER)
                except HandleClosed:
                    if not self._ended:  # closed before it began
                        raise
            seen, lower, upper = self._ready.popleft()
            self._at = (lower, upper, seen.place)
            if seen.event.kind is EventKind.DELETED and self._job_id is not None:
                self._ready.clear()
                self.end()
            return seen.event

    async def aclose(self) -> None:
        """Stop watching; what is ready is still handed out."""
        self.end()

    def end(self) -> None:
        """Stop watching, from the event loop."""
        self._ended = True
        self._live = False
        self._heard.set()
        self._lookout.leave(self)

    def hear(self, lower: str, upper: str, seen: Sequence[_Seen] | None) -> None:
        """What happened between two marks; None when that is too much to hand round."""
        if not self._live:
            return
        mine = None if seen is None else [one for one in seen if self._concerns(one)]
        if mine is None or len(self._ready) + len(mine) > WINDOW:
            self._live = False
        else:
            self._ready.extend((one, lower, upper) for one in mine)
            self._fed = upper
        if mine or mine is None:
            self._heard.set()

    def _concerns(self, one: _Seen) -> bool:
        if self._job_id is not None:
            return one.event.job_id == self._job_id
        return self._guild_id is None or one.guild_id == self._guild_id

    async def _begin(self) -> None:
        if self._begun or self._ended:
            return
        self._lookout.driver.guard.check("watch")
        self._origin = await self._lookout.origin()
        if self._after is None:
            await self._lookout.admit(self)
            self._fed, self._live = self._lookout.mark, True
            self._at = (self._fed, None, None)
        else:
            cursor = parse_cursor(self._after, self._lookout.driver.dialect, self._origin)
            await self._lookout.admit(self)
            self._fed, self._upper, self._place = cursor[2:]
            self._at = cursor[2:]
        self._begun = True

    async def _read(self) -> None:
        """The next part of the history, up to where the reader is."""
        end = self._upper
        if end is None:
            bound = self._lookout.mark
            if self._fed == bound:
                self._live = True
                return
            anything, more, upper = await self._lookout.window(self._fed, bound)
            if not anything:
                self._fed = bound
                return
            end = upper if more else bound
        rows = await self._lookout.driver.read("watch_events", self._args(end), self._when())
        self._ready.extend((_decode(row), self._fed, end) for row in rows)
        if len(rows) < WINDOW:
            self._fed, self._upper, self._place = end, None, None
        else:
            self._upper, self._place = end, self._ready[-1][0].place

    def _args(self, upper: str) -> dict[str, Any]:
        args: dict[str, Any] = {"lower": self._fed, "upper": upper, "limit": WINDOW}
        if self._job_id is not None:
            args["job_id"] = self._job_id
        if self._guild_id is not None:
            args["guild_id"] = self._guild_id
        if self._place is not None:
            names = ("place", "place_job", "place_life", "place_seq")
            args |= zip(names, self._place, strict=True)
        return args

    def _when(self) -> frozenset[str]:
        given = {"job": self._job_id, "guild": self._guild_id, "after": self._place}
        return frozenset(name for name, value in given.items() if value is not None)


def _decode(row: Row) -> _Seen:
    job_id, values = row[0], row[1:10]
    try:
        event = JobEvent.decode(job_id, values)
    except UnknownCode:  # of a newer pandora_db: a watcher must not stand still before it
        event = JobEvent.decode(job_id, values, kind=EventKind.RECORDED)
    return _Seen(event, row[10], (row[11], job_id, row[12], event.seq))


def _answer(askers: Iterable[asyncio.Future[None]], error: PandoraDbError | None) -> None:
    for asker in askers:
        if asker.done():
            continue
        if error is None:
            asker.set_result(None)
        else:
            asker.set_exception(error)
