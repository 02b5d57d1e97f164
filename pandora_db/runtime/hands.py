"""How many jobs a worker works on at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager


class Hands:
    """So many at once. A handler that waits for other jobs lends its hand until it goes on.

    Attributes:
        reserved: for claims that are on their way.
        on_lent: called when one was lent.
    """

    def __init__(self, count: int, on_lent: Callable[[], None]) -> None:
        self.reserved = 0
        self.on_lent = on_lent
        self._count = count
        self._taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """How many jobs could be begun now."""
        return self._count - self._taken - self.reserved

    def take(self) -> None:
        """Take one."""
        self._taken += 1

    def give(self) -> None:
        """Give one back."""
        self._taken -= 1
        if self._waiting:
            self.pass_on()

    def pass_on(self) -> None:
        """Whoever wants a hand back goes before those who have not begun."""
        while self._waiting and self.free > 0:
            waiting = self._waiting.popleft()
            if not waiting.done():
                self.take()
                waiting.set_result(None)

    async def take_next(self) -> None:
        """Take one, as soon as there is one."""
        if self.free > 0:
            self.take()
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        try:
            await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled():
                self.give()
            raise


class Hand:
    """The hand that an attempt has; taken when it is made."""

    __slots__ = ("_hands", "_held", "_over", "_turn", "_waits")

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._held = True
        self._over = False
        self._waits = 0
        self._turn: asyncio.Lock | None = None  # few handlers lend their hand
        hands.take()

    @property
    def is_lent(self) -> bool:
        """Whether its handler waits for other jobs."""
        return self._waits > 0

    @asynccontextmanager
    async def lent(self) -> AsyncGenerator[None]:
        """Lend it for the length of a block; at its end it is taken back, when one is free."""
        self._waits += 1
        self._let_go()
        self._hands.on_lent()
        try:
            yield
        finally:
            self._waits -= 1
        if self._turn is None:
            self._turn = asyncio.Lock()
        async with self._turn:
            if self._is_wanted and not self._held:
                await self._hands.take_next()
                self._held = True
                if not self._is_wanted:  # the handler waits in another place by now
                    self._let_go()

    def end(self) -> None:
        """Give it back for good."""
        self._over = True
        self._let_go()

    @property
    def _is_wanted(self) -> bool:
        return not (self._waits or self._over)

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            self._hands.give()
