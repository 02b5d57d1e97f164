"""When to look for new events: after our own commits, and when the file has changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable

from pandora_db.drivers.sqlite.lane import Lane

_BUSY, _IDLE = 0.005, 0.015
_CALM = 1.0  # seconds without news after which it is idle


class SqliteBell:
    """Commits of the handle ring by themselves; `PRAGMA data_version` tells of all others.

    Asking is one hop into the reader's thread. At the longer interval that costs less than a
    hundredth of a core.
    """

    def __init__(
        self,
        writer: Lane,
        in_reader: Callable[[Callable[[sqlite3.Connection], object]], Awaitable[object]],
        ring: Callable[[], None],
    ) -> None:
        self._writer = writer
        self._in_reader = in_reader
        self._ring = ring
        self._version: object = None
        self._changes = -1
        writer.on_release = self._released

    def pause(self, quiet: float) -> float:
        """See `Bell.pause`."""
        return _BUSY if quiet < _CALM else _IDLE

    async def rang(self) -> bool:
        """See `Bell.rang`."""
        version = await self._in_reader(_version)
        changed = version != self._version
        self._version = version
        return changed

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
