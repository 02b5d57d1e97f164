"""Room in a bounded queue, given out in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sized


class Room:
    """Whoever finds a queue full waits here; a place is held for each from when it is woken."""

    __slots__ = ("_loop", "_most", "_promised", "_queue", "_waiting")

    def __init__(self, queue: Sized, most: int) -> None:
        self._queue = queue
        self._most = most
        self._loop = asyncio.get_running_loop()
        self._promised = 0  # places of those who are woken and have not entered yet
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_free(self) -> bool:
        """Whether a caller may enter, with nobody before it who waits or is about to enter."""
        return not self._waiting and not self._promised and len(self._queue) < self._most

    async def wait(self, seconds: float) -> None:
        """Wait for a place, which the caller then takes at once; raises `TimeoutError`."""
        place: asyncio.Future[None] = self._loop.create_future()
        self._waiting.append(place)
        try:
            async with asyncio.timeout(seconds):
                await place
        except BaseException:
            self._taken_or_left(place)
            self.wake()
            raise
        self._taken_or_left(place)

    def _taken_or_left(self, place: asyncio.Future[None]) -> None:
        if place.done() and not place.cancelled() and place.exception() is None:
            self._promised -= 1

    def wake(self) -> None:
        """Give out the places that are free."""
        while self._waiting:
            if not self._waiting[0].done():
                if len(self._queue) + self._promised >= self._most:
                    break
                self._promised += 1
                self._waiting[0].set_result(None)
            self._waiting.popleft()

    def refuse(self, error: Callable[[], Exception]) -> None:
        """End the waiting of all, each with an error of its own: no place will be free again."""
        for place in self._waiting:
            if not place.done():
                place.set_exception(error())
        self._waiting.clear()
