"""When to look for new events: after our own commits, and when the file has changed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Awaitable, Callable

from pandora_db.drivers.sqlite.lane import Lane

_BUSY, _IDLE = 0.005, 0.025
_SURE = 8  # of so many looks one asks SQLite itself
_CALM = 1.0  # seconds without news after which it is idle


class SqliteBell:
    """Commits of the handle ring by themselves; `PRAGMA data_version` tells of all others.

    Asking is a hop into the reader's thread. Between two of them the time and size of the WAL file,
    which every commit writes to, tell nearly as much for a fraction of that.
    """

    def __init__(
        self,
        path: str,
        writer: Lane,
        in_reader: Callable[[Callable[[sqlite3.Connection], object]], Awaitable[object]],
        ring: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._in_reader = in_reader
        self._ring = ring
        self._version: object = None
        self._wal = f"{path}-wal"
        self._written: tuple[int, int] | None = None
        self._looks = 0
        self._changes = -1
        writer.on_release = self._released

    def pause(self, quiet: float) -> float:
        """See `Bell.pause`."""
        return _BUSY if quiet < _CALM else _IDLE

    async def rang(self) -> bool:
        """See `Bell.rang`."""
        written = self._file()
        self._looks += 1
        if written != self._written:
            self._written = written
            return True
        if self._looks % _SURE:
            return False
        version = await self._in_reader(_version)
        changed = version != self._version
        self._version = version
        return changed

    def _file(self) -> tuple[int, int] | None:
        try:
            facts = os.stat(self._wal)  # noqa: PTH116 - some microseconds, many times a second
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size

    async def close(self) -> None:
        """See `Bell.close`."""
        self._writer.on_release = None

    def _released(self) -> None:
        # The connection of `:memory:` reads too, and a look must not ring for the next one.
        changes = self._writer.hop.changes
        if changes != self._changes:
            self._changes = changes
            self._ring()


def _version(connection: sqlite3.Connection) -> object:
    return connection.execute("PRAGMA data_version").fetchone()[0]
