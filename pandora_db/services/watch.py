"""Watching what happens to jobs: `Watch`, of which a handle has any number."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from pandora_db.errors import PASSING, HandleClosed, PandoraDbError
from pandora_db.models.cursor import EventPlace, WatchCursor, decode_cursor, parse_cursor
from pandora_db.models.event import EventKind, JobEvent
from pandora_db.services import lookout as reader
from pandora_db.services.lookout import LATER, SOON, Lookout
from pandora_db.services.seen import Seen, decode


class Watch:
    """The events of one job, of one guild or of all, as they happen; made by `JobDb.watch`.

    `async with` begins at once, and ends at the end of the block; without it watching begins with
    the first event that is asked for, and ends when nothing refers to it any more. Only one task
    at a time may ask.
    """

    def __init__(
        self, lookout: Lookout, *, job_id: int | None, guild_id: int | None, after: str | None
    ) -> None:
        if after is not None:
            decode_cursor(after)
        self._lookout = lookout
        self._job_id = job_id
        self._guild_id = guild_id
        self._after = after
        self._begun = False
        self._ended = False
        self._live = False  # whether what happens is heard, and need not be read
        self._ready: deque[tuple[Seen, str, str]] = deque()
        self._fed = ""  # the mark up to which all is ready, or handed out
        self._upper: str | None = None  # of a window that is read in parts, and how far
        self._place: EventPlace | None = None
        self._at: tuple[str, str | None, EventPlace | None] = ("", None, None)
        self._origin: str | None = None
        self._heard = asyncio.Event()
        self._turn = asyncio.Lock()

    @property
    def cursor(self) -> str | None:
        """Where this watcher stands, for `db.watch(after=…)`; None before it has begun.

        Raises:
            PandoraDbError: the role may not ask which server this is.
        """
        if not self._begun:
            return self._after
        origin = _known(self._origin)
        dialect = self._lookout.driver.dialect
        if self._live and not self._ready:
            return str(WatchCursor(dialect, origin, self._fed))
        return str(WatchCursor(dialect, origin, *self._at))

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
            pause = SOON
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
                    pause = SOON
                except PASSING:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, LATER)
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

    def hear(self, lower: str, upper: str, seen: Sequence[Seen] | None) -> None:
        """What happened between two marks; None when that is too much to hand round."""
        if not self._live:
            return
        mine = None if seen is None else [one for one in seen if self._concerns(one)]
        if mine is None or len(self._ready) + len(mine) > reader.WINDOW:
            self._live = False
        else:
            self._ready.extend((one, lower, upper) for one in mine)
            self._fed = upper
        if mine or mine is None:
            self._heard.set()

    def _concerns(self, one: Seen) -> bool:
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
            origin = _known(self._origin)
            cursor = parse_cursor(self._after, self._lookout.driver.dialect, origin)
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
        self._ready.extend((decode(row), self._fed, end) for row in rows)
        if len(rows) < reader.WINDOW:
            self._fed, self._upper, self._place = end, None, None
        else:
            self._upper, self._place = end, self._ready[-1][0].place

    def _args(self, upper: str) -> dict[str, Any]:
        args: dict[str, Any] = {"lower": self._fed, "upper": upper, "limit": reader.WINDOW}
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


def _known(origin: str | None) -> str:
    if origin is None:
        raise PandoraDbError(
            "a cursor names the server it belongs to, and this role may not ask for that: "
            "GRANT EXECUTE ON FUNCTION pg_control_system() to it, or watch without a cursor"
        )
    return origin
