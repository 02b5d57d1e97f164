"""When to look for new events: after our own commits, and at intervals for those of others."""

from __future__ import annotations

from collections.abc import Callable

from pandora_db.drivers.postgres.pool import Pool

_BUSY, _IDLE = 0.02, 0.1
_CALM = 1.0  # seconds without news after which it is idle


class PostgresBell:
    """The look itself is one read of an index, so there is nothing to be asked before it."""

    def __init__(self, pool: Pool, ring: Callable[[], None]) -> None:
        self._pool = pool
        pool.on_commit = ring

    def pause(self, quiet: float) -> float:
        """See `Bell.pause`."""
        return _BUSY if quiet < _CALM else _IDLE

    async def rang(self) -> bool:
        """See `Bell.rang`."""
        return True

    async def close(self) -> None:
        """See `Bell.close`."""
        self._pool.on_commit = None
