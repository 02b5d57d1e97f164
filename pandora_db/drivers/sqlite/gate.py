"""Joining a flight that is out already."""

from __future__ import annotations

import asyncio
from _thread import allocate_lock
from collections.abc import Sequence
from typing import Any

from pandora_db.drivers.sqlite.crowd import Call


class Waiting:
    """A call in the queue, or a transaction that wants its turn (`call` is None).

    `first` says that its first row is the answer, and None where there is none.
    """

    __slots__ = ("call", "first", "future", "since")

    def __init__(
        self, call: Call | None, future: asyncio.Future[Any], since: float, *, first: bool = False
    ) -> None:
        self.call = call
        self.future = future
        self.since = since
        self.first = first


class Gate:
    """Where calls still join a flight that is out, until its thread has done those before them.

    Attributes:
        boarded: those that joined it; once `close` was called, those that are done with it.
    """

    __slots__ = ("_lock", "_room", "boarded", "closed")

    def __init__(self, room: int) -> None:
        self.boarded: list[Waiting] = []
        self.closed = False
        self._lock = allocate_lock()
        self._room = room

    def board(self, waiting: Waiting) -> bool:
        """Join, in the event loop; False when it is too late, or there is no room."""
        with self._lock:
            if self.closed or len(self.boarded) >= self._room:
                return False
            self.boarded.append(waiting)
            return True

    def close(self) -> Sequence[Call]:
        """Let nobody else join, in the thread; what is to be done for those who have."""
        with self._lock:
            self.closed = True
        self.boarded = [one for one in self.boarded if not one.future.done()]
        return [one.call for one in self.boarded if one.call is not None]
