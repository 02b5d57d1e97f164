"""When to look for new events: after commits of this process, and when the file has changed."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from functools import partial

from pandora_db.drivers.base import OnNews
from pandora_db.drivers.sqlite.hop import Begun
from pandora_db.drivers.sqlite.inotify import Writes
from pandora_db.drivers.sqlite.lane import Lane
from pandora_db.drivers.sqlite.neighbours import Neighbours

_SURE = 0.25  # seconds between two questions to SQLite itself, whatever the file tells
_GLANCE = 0.025  # seconds between two looks at the WAL file, where its writes are not told
_FIRST, _GROWTH = 0.001, 1.5  # seconds between the first two questions after a write
_BREATH = 0.02  # seconds to the first one while this process writes too, and after news


class SqliteBell:
    """Commits of this process tell of themselves; `PRAGMA data_version` tells of all others.

    The writer is asked, whose own commits do not change the answer. Asking is a hop into its
    thread, so it is done when the WAL file was written to, which Linux tells and its time and size
    show elsewhere. What was written counts a moment later, when it is on disk: the question is
    asked again, ever more seldom; after an answer too, since more may have been written by then.
    """

    def __init__(
        self, path: str | None, neighbours: Neighbours, writer: Lane, on_news: OnNews
    ) -> None:
        self._writer = writer
        self._ring = partial(on_news, None)
        self._loop = asyncio.get_running_loop()
        self._version: object = None
        self._pause = _SURE
        self._alert = False  # something was written, and may not have shown yet
        self._changed = 0.0  # the loop time of the last news
        self._turns = 0  # of the writer, when it was asked last
        self._timer: asyncio.TimerHandle | None = None
        self._glance: asyncio.TimerHandle | None = None
        self._asking = False
        self._closed = path is None  # in memory there is nobody else
        self._leave = neighbours.join(on_news)
        self._wal = f"{path}-wal"
        self._written = self._file()
        self._writes = None if self._closed else Writes.to(self._wal, self._noticed)
        self._wait(_SURE)
        if self._writes is None:
            self._look_at_file()

    def looked(self, *, news: bool) -> None:
        """See `Bell.looked`; what is found makes no difference here."""

    async def close(self) -> None:
        """See `Bell.close`; an answer that is under way is no longer heard."""
        self._closed = True
        self._leave()
        if self._writes is not None:
            self._writes.close()
        for timer in (self._timer, self._glance):
            if timer is not None:
                timer.cancel()

    def _noticed(self) -> None:
        """The file was written to."""
        # Our own commit, whose end tells of itself, or one of many: these are asked for together.
        ours = self._writer.busy or self._writer.turns != self._turns
        many = self._loop.time() < self._changed + _BREATH
        pause = _BREATH if ours or many else _FIRST
        if self._alert and self._pause <= pause:
            return
        self._alert = True
        if pause == _BREATH:
            self._wait(_BREATH)
        else:
            self._pause = _FIRST
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
        if self._asking:
            return
        self._asking = True
        if self._writes is not None:
            self._writes.listen()  # to what the answer cannot tell of
        if not self._writer.busy:
            self._turns = self._writer.turns
        self._writer.hop.post(_version, self._compare)

    def _compare(self, version: object) -> None:
        self._asking = False
        if self._closed:
            return
        pause = min(_GROWTH * self._pause, _SURE)
        # An error shows at the next look.
        if not isinstance(version, BaseException) and version != self._version:
            self._version = version
            self._ring()
            self._changed = self._loop.time()
            pause = _BREATH  # more may have been written by now, and not show yet
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


def _version(connection: sqlite3.Connection, _: Begun) -> object:
    return connection.execute("PRAGMA data_version").fetchone()[0]
