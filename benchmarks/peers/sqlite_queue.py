"""What the queues on SQLite have in common: one synchronous file, driven by the thread it is in."""

from __future__ import annotations

import sqlite3
import time
from typing import Protocol

_FULL = 2


class SqliteQueue(Protocol):
    """Another queue in a file of its own."""

    def put(self, count: int) -> None:
        """Store that many jobs."""

    def work(self) -> int:
        """Take one job after the other and finish it, until there is none; how many."""

    def tidy(self) -> None:
        """Drop what is finished, as its documentation advises."""

    def connection(self) -> sqlite3.Connection:
        """The connection that writes."""

    def close(self) -> None:
        """Let go of the file."""


def rate(queue: SqliteQueue, count: int) -> float:
    """Jobs per second from the first that is taken to the last that is finished."""
    queue.put(count)
    (journal,) = queue.connection().execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = queue.connection().execute("PRAGMA synchronous").fetchone()
    assert (journal, synchronous) == ("wal", _FULL), (journal, synchronous)
    start = time.perf_counter()
    done = queue.work()
    seconds = time.perf_counter() - start
    assert done == count, (done, count)
    queue.tidy()
    return count / seconds
