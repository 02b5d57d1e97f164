"""Room in a bounded queue, given out in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """Whoever finds a queue full waits here; a place is held for each from when it is woken."""

    __slots__ = ("_loop", "_most", "_promised", "_waiting")

    def __init__(self, most: int) -> None:
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._promised = 0  # places of those who are woken and have not entered yet
        self._waiting: deque[asyncio.Future[None]] = deque()

    def is_free(self, queued: int) -> bool:
        """Whether a caller may enter beside `queued` others, with nobody waiting before it."""
        return not self._waiting and queued + self._promised < self._most

    async def wait(self, seconds: float) -> None:
        """Wait for a place, which the caller then takes at once; raises `TimeoutError`."""
        place: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await place
        finally:
            if place.done() and not place.cancelled() and place.exception() is None:
                self._promised -= 1

    def refuse(self, error: Exception) -> None:
        """End the waiting of all: no place will be free again."""
        for place in self._waiting:
            if not place.done():
                place.set_exception(error)
        self._waiting.clear()

    def wake(self, queued: int) -> None:
        """Give out the places that are free beside `queued` calls."""
        while self._waiting and queued + self._promised < self._most:
            place = self._waiting.popleft()
            if not place.done():
                self._promised += 1
                place.set_result(None)
