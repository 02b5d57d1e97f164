"""When to look for new events: after our own commits, when notified, and at intervals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from pandora_db.drivers.base import OnNews
from pandora_db.drivers.postgres.listener import Listener
from pandora_db.drivers.postgres.pool import Pool

_BUSY, _IDLE, _LISTENING = 0.02, 0.1, 0.5
_CALM = 1.0  # seconds without news after which it is idle


class PostgresBell:
    """Tells of the handle's commits; rings when `listener` hears something, and as time goes by.

    A look is one read of an index, so there is nothing to be asked before it. Programs that do not
    notify, and transactions that the caller committed, are met by the intervals.
    """

    def __init__(self, pool: Pool, on_news: OnNews, listen: Callable[[], Listener] | None) -> None:
        self._pool = pool
        self._ring = partial(on_news, None)
        self._loop = asyncio.get_running_loop()
        self._news = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._listener = listen() if listen else None
        pool.on_commit = on_news

    def looked(self, *, news: bool) -> None:
        """See `Bell.looked`."""
        now = self._loop.time()
        if news:
            self._news = now
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(now + self._pause(now - self._news), self._ring)

    def _pause(self, quiet: float) -> float:
        if quiet < _CALM:
            return _BUSY
        return _LISTENING if self._listener and self._listener.up else _IDLE

    async def close(self) -> None:
        """See `Bell.close`."""
        self._pool.on_commit = None
        if self._timer is not None:
            self._timer.cancel()
        if self._listener is not None:
            await self._listener.close()
