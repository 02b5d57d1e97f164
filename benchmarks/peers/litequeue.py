"""litequeue: pop, then done; a file of its own in WAL, set to FULL (its default is NORMAL)."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from litequeue import LiteQueue


class Litequeue:
    """A `LiteQueue`."""

    def __init__(self, folder: Path) -> None:
        self._queue = LiteQueue(folder / "litequeue.db")
        self._queue.conn.execute("PRAGMA synchronous = FULL")

    def put(self, count: int) -> None:
        """Store that many messages."""
        with self._queue.transaction():
            for number in range(count):
                self._queue.put(str(number))

    def work(self) -> int:
        """Take one after the other and finish it."""
        done = 0
        while (message := self._queue.pop()) is not None:
            self._queue.done(message.message_id)
            done += 1
        return done

    def tidy(self) -> None:
        """Drop what is finished."""
        self._queue.prune()

    def connection(self) -> sqlite3.Connection:
        """The connection that writes."""
        # Its rows come as sqlite3.Row, which unpacks as a tuple does.
        connection: sqlite3.Connection = self._queue.conn
        return connection

    def close(self) -> None:
        """Let go of the file."""
        self._queue.close()
