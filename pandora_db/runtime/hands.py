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
        self._waiting: deque[Hand] = deque()

    @property
    def free(self) -> int:
        """How many jobs could be begun now; below 0 while more are taken than there are."""
        return self._count - self._taken - self.reserved

    def take(self) -> None:
        """Take one, whether or not one is free."""
        self._taken += 1

    def give(self) -> None:
        """Give one back."""
        self._taken -= 1
        if self._waiting:
            self.pass_on()

    def pass_on(self) -> None:
        """Whoever wants a hand back goes before those who have not begun."""
        while self._waiting and self.free > 0:
            self._waiting.popleft().take()

    def ask(self, hand: Hand) -> None:
        """Have it taken as soon as one is free."""
        self._waiting.append(hand)
        self.pass_on()

    def withdraw(self, hand: Hand) -> None:
        """It is not asked for any more."""
        if hand in self._waiting:
            self._waiting.remove(hand)


class Hand:
    """The hand that an attempt has; taken when it is made.

    A handler that goes on after it waited has it again, however the wait ended. For that it waits
    until one is free, unless it was cancelled: a time-out has to come in time, also where the job
    that has the hand is what takes so long, and who is to end must not wait. Then more are taken
    than there are, and none is free until that many were given back.
    """

    __slots__ = ("_asking", "_hands", "_held", "_over", "_waits")

    def __init__(self, hands: Hands) -> None:
        self._hands = hands
        self._held = False
        self._over = False
        self._waits = 0
        self._asking: asyncio.Event | None = None  # until it is taken, or not wanted any more
        self.take()

    @property
    def is_lent(self) -> bool:
        """Whether its handler waits for other jobs."""
        return self._waits > 0

    @asynccontextmanager
    async def lent(self) -> AsyncGenerator[None]:
        """Lend it for the length of a block; at its end it is taken back."""
        self._waits += 1
        self._let_go()
        self._hands.on_lent()
        try:
            try:
                yield
            finally:
                self._waits -= 1
        except Exception:
            await self._take_back()
            raise
        except BaseException:
            self._take_at_once()
            raise
        await self._take_back()

    def take(self) -> None:
        """Take it, whether or not one is free."""
        self._held = True
        self._hands.take()
        self._end_asking()

    def end(self) -> None:
        """Give it back for good."""
        self._over = True
        self._let_go()

    @property
    def _is_wanted(self) -> bool:
        return not (self._held or self._waits or self._over)

    async def _take_back(self) -> None:
        """Take it as soon as one is free, or until the handler waits in another place."""
        if not self._is_wanted:
            return
        self._asking = asking = asyncio.Event()
        self._hands.ask(self)
        try:
            await asking.wait()
        except asyncio.CancelledError:
            self._take_at_once()
            raise

    def _take_at_once(self) -> None:
        if self._is_wanted:
            self._hands.withdraw(self)
            self.take()

    def _let_go(self) -> None:
        if self._held:
            self._held = False
            self._hands.give()
        else:
            self._hands.withdraw(self)
            self._end_asking()

    def _end_asking(self) -> None:
        if self._asking is not None:
            self._asking.set()
            self._asking = None
