"""Joining a flight that is out already."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from threading import Lock
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
    """Where calls join a flight that is out: from when it has the write lock until it is done.

    Attributes:
        boarded: those that joined; after `close`, without those that had left by then.
        closed: whether the thread has asked for them.
    """

    __slots__ = ("_lock", "_open", "_room", "boarded", "closed")

    def __init__(self, room: int) -> None:
        self.boarded: list[Waiting] = []
        self.closed = False
        self._lock = Lock()
        self._open = False
        self._room = room

    def board(self, waiting: Waiting) -> bool:
        """Join, in the event loop; False when it is too early or too late, or there is no room."""
        with self._lock:
            if not self._open or len(self.boarded) >= self._room:
                return False
            self.boarded.append(waiting)
            return True

    def open(self) -> None:
        """Let calls join, in the thread: it waits for nobody any more, and so will they not."""
        self._open = True

    def close(self) -> Sequence[Call]:
        """In the thread: let nobody else join; the calls of those who have.

        Who leaves from here on is completed.
        """
        with self._lock:
            self._open = False
        self.closed = True
        self.boarded = [one for one in self.boarded if not one.future.done()]
        return [one.call for one in self.boarded if one.call is not None]
