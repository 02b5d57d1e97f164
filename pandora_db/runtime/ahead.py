"""Claims that wait for a hand: while jobs are short, the next ones are claimed ahead of need."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandora_db.models.claim import Claim

_SHORT = 0.1
"""Seconds that an attempt takes, about, for which the way to the database is worth hiding."""
_STOCK = 0.1
"""Seconds, about, that the hands work on what is here: the larger a claim, the less a job costs."""
_LEAST, _MOST = 2, 4  # for each hand
_PATIENCE = 0.5
"""Seconds that a job waits here at most; then it is given back, for others to take."""
_WEIGHT = 0.2
_WARY = 60.0
"""Seconds without claims ahead after one of a job that may not be kept waiting, or might be."""


class Ahead:
    """The claims of one worker that have not begun.

    They have their leases, and are two to four for each hand, the shorter the jobs the more.
    Whoever works on long jobs has none: those would be kept from other workers.
    """

    def __init__(
        self,
        hands: int,
        may_not_wait: Callable[[Claim], bool],
        give_back: Callable[[Claim], Coroutine[None, None, None]],
    ) -> None:
        self._hands = hands
        self._may_not_wait = may_not_wait
        self._give_back = give_back
        self._claims: deque[tuple[float, Claim]] = deque()  # with the loop time when they came
        self._giving: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._took = float("inf")
        self._wary_until = 0.0  # loop time

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def claims(self) -> list[Claim]:
        """All of them."""
        return [claim for _, claim in self._claims]

    @property
    def pays(self) -> bool:
        """Whether the way to the database is worth hiding: jobs are short, and may wait here."""
        now = asyncio.get_running_loop().time()
        return self._hands > 0 and self._took < _SHORT and now >= self._wary_until

    @property
    def room(self) -> int:
        """How many more could be claimed ahead; in batches, since a claim is a call."""
        if not self.pays:
            return 0
        stock = _STOCK / self._took if self._took > 0 else _MOST
        most = self._hands * min(max(int(stock), _LEAST), _MOST)
        room = most - len(self._claims)
        return room if 2 * room >= most else 0

    def note(self, seconds: float) -> None:
        """A hand was busy with a job for so long."""
        old = self._took
        self._took = seconds if old == float("inf") else old + _WEIGHT * (seconds - old)

    def add(self, claims: Sequence[Claim]) -> None:
        """Keep them until there are hands; one that may not wait tells of others like it."""
        if any(map(self._may_not_wait, claims)):
            self.be_wary()
        now = asyncio.get_running_loop().time()
        self._claims.extend((now, claim) for claim in claims)
        self._wind()

    def take(self) -> Claim | None:
        """The next that still counts."""
        while self._claims:
            _, claim = self._claims.popleft()
            if not claim.lost:
                return claim
        return None

    def part_with(self) -> None:
        """Give back those of jobs that may not wait here."""
        claims, self._claims = self._claims, deque()
        for came, claim in claims:
            if self._may_not_wait(claim):
                self._return(claim)
            else:
                self._claims.append((came, claim))

    def be_wary(self) -> None:
        """Claim none ahead for a while."""
        self._wary_until = asyncio.get_running_loop().time() + _WARY

    @property
    def giving(self) -> list[asyncio.Task[None]]:
        """What is being given back."""
        return list(self._giving)

    def give_up(self) -> None:
        """Begin to give back what has not begun."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._took = float("inf")
        while self._claims:
            _, claim = self._claims.popleft()
            self._return(claim)

    def _wind(self) -> None:
        if self._claims and self._alarm is None:
            due = self._claims[0][0] + _PATIENCE
            self._alarm = asyncio.get_running_loop().call_at(due, self._look)

    def _look(self) -> None:
        """Whether the one that came first has waited too long: those behind it may be new."""
        self._alarm = None
        now = asyncio.get_running_loop().time()
        if self._claims and now >= self._claims[0][0] + _PATIENCE:
            self.give_up()  # all of them: the hands have found something longer to do
        self._wind()

    def _return(self, claim: Claim) -> None:
        giving = asyncio.ensure_future(self._give_back(claim))
        self._giving.add(giving)
        giving.add_done_callback(self._giving.discard)
