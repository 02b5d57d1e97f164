"""When a worker looks for jobs again: at once when it is told to, else after a pause that grows."""

from __future__ import annotations

import asyncio
from contextlib import suppress

_FIRST = 0.05
_GROWTH = 1.5


class Wake:
    """What a worker sleeps on.

    Rung when a job may have become claimable; polling is the truth, a ring a hint. Each look that
    finds nothing makes the pause longer, up to `most` seconds.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._pause = min(_FIRST, most)
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Let the worker look now."""
        self._pause = min(_FIRST, self._most)
        self._rung.set()

    @property
    def rung(self) -> bool:
        """Whether the worker is about to look."""
        return self._rung.is_set()

    def answer(self) -> None:
        """The worker looks: what is rung from now on makes it look once more."""
        self._rung.clear()

    def found(self) -> None:
        """There were jobs: the next pause is a short one."""
        self._pause = min(_FIRST, self._most)

    async def wait_ring(self) -> None:
        """Sleep until somebody rings."""
        await self._rung.wait()

    async def wait(self) -> None:
        """Sleep until somebody rings, or the pause is over."""
        pause, self._pause = self._pause, min(self._pause * _GROWTH, self._most)
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._rung.wait()
