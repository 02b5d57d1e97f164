"""When to look for new events: after commits of this process, and when the file has changed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pandora_db.drivers.sqlite.inotify import Writes
from pandora_db.drivers.sqlite.neighbours import Neighbours
from pandora_db.errors import PandoraDbError

_SURE = 0.25  # seconds between two questions to SQLite itself, whatever the file tells
_GLANCE = 0.025  # seconds between two looks at the WAL file, where its writes are not told
_FIRST, _GROWTH = 0.001, 1.5  # seconds between the first two questions after a write
_LIKELY_OURS = 0.02  # seconds to the first question, if this process writes too


class SqliteBell:
    """Commits of this process ring by themselves; `PRAGMA data_version` tells of all others.

    Asking is a hop into the reader's thread, so it is done when the WAL file was written to, which
    Linux tells and its time and size show elsewhere. What was written counts a moment later, when
    it is on disk: the question is asked again, and ever more seldom, until the answer is another.
    """

    def __init__(
        self,
        path: str | None,
        neighbours: Neighbours,
        in_reader: Callable[[Callable[[sqlite3.Connection], object]], Awaitable[object]],
        writing: Callable[[], bool],
        ring: Callable[[], None],
    ) -> None:
        self._in_reader = in_reader
        self._writing = writing
        self._ring = ring
        self._loop = asyncio.get_running_loop()
        self._version: object = None
        self._pause = _SURE
        self._alert = False  # something was written, and has not shown yet
        self._again = False  # and more was written meanwhile
        self._timer: asyncio.TimerHandle | None = None
        self._glance: asyncio.TimerHandle | None = None
        self._asking: asyncio.Task[None] | None = None
        self._closed = path is None  # in memory there is nobody else
        self._leave = neighbours.join(ring)
        self._wal = f"{path}-wal"
        self._written = self._file()
        self._writes = None if self._closed else Writes.to(self._wal, self._noticed)
        self._wait(_SURE)
        if self._writes is None:
            self._look_at_file()

    def looked(self, *, news: bool) -> None:
        """See `Bell.looked`; what is found makes no difference here."""

    async def close(self) -> None:
        """See `Bell.close`."""
        self._closed = True
        self._leave()
        if self._writes is not None:
            self._writes.close()
        for timer in (self._timer, self._glance):
            if timer is not None:
                timer.cancel()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    def _noticed(self) -> None:
        """The file was written to."""
        self._again = self._alert or self._asking is not None
        if self._alert:
            return
        self._alert = True
        self._pause = _FIRST
        if self._writing():  # it may be our own commit, whose end rings by itself
            self._wait(_LIKELY_OURS)
            self._pause = _FIRST
        else:
            self._ask()

    def _wait(self, pause: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed:
            self._timer = self._loop.call_later(pause, self._ask)
        self._pause = pause

    def _ask(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._asking is None:
            self._asking = self._loop.create_task(self._compare())

    async def _compare(self) -> None:
        changed = False
        try:
            with suppress(PandoraDbError):  # it shows at the next look
                version = await self._in_reader(_version)
                changed = version != self._version
                self._version = version
        finally:
            self._asking = None
            pause = min(_GROWTH * self._pause, _SURE)
            if changed:
                self._ring()
                pause = _FIRST if self._again else _SURE
                self._again = False
            self._alert = pause < _SURE
            self._wait(pause)

    def _look_at_file(self) -> None:
        if self._closed:
            return
        written = self._file()
        if written != self._written:
            self._written = written
            self._noticed()
        self._glance = self._loop.call_later(_GLANCE, self._look_at_file)

    def _file(self) -> tuple[int, int] | None:
        try:
            facts = os.stat(self._wal)  # noqa: PTH116 - some microseconds, many times a second
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size


def _version(connection: sqlite3.Connection) -> object:
    return connection.execute("PRAGMA data_version").fetchone()[0]
