"""How fast a channel may be edited."""

from __future__ import annotations

from collections import deque


class Pace:
    """At most so many requests within any stretch of so many seconds.

    A request counts from when it is surely at Discord: its end, as a rule.
    """

    def __init__(self, requests: int, per: float) -> None:
        self._ends: deque[float] = deque(maxlen=requests)
        self._requests = requests
        self._per = per
        self._paused_until = 0.0

    def due(self) -> float:
        """When the next request may be made, by the clock of the event loop."""
        full = len(self._ends) == self._requests
        return max(self._ends[0] + self._per if full else 0.0, self._paused_until)

    def mark(self, at: float) -> None:
        """A request was at Discord by then."""
        self._ends.append(at)

    def pause(self, until: float) -> None:
        """Make none until then: Discord said so."""
        self._paused_until = max(self._paused_until, until)
