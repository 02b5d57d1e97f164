"""persist-queue: get, then ack; JSON as its serialiser, FULL is the default of SQLite."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from persistqueue import Empty, SQLiteAckQueue
from persistqueue.serializers import json


class PersistQueue:
    """A `SQLiteAckQueue`."""

    def __init__(self, folder: Path) -> None:
        self._queue = SQLiteAckQueue(str(folder / "persist-queue"), serializer=json)
        self.connection().execute("PRAGMA synchronous = FULL")

    def put(self, count: int) -> None:
        """Store that many items."""
        for number in range(count):
            self._queue.put(number)

    def work(self) -> int:
        """Take one after the other and finish it."""
        done = 0
        while True:
            try:
                job = self._queue.get(block=False, raw=True)
            except Empty:
                return done
            self._queue.ack(id=job["pqid"])
            done += 1

    def tidy(self) -> None:
        """Drop what is finished."""
        # Every get walks past what was acknowledged.
        self._queue.clear_acked_data(max_delete=1_000_000, keep_latest=0)

    def connection(self) -> sqlite3.Connection:
        """The connection that writes."""
        connection: Any = self._queue._putter  # noqa: SLF001
        assert isinstance(connection, sqlite3.Connection)
        return connection

    def close(self) -> None:
        """Let go of the file."""
        self._queue.close()
