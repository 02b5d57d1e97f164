"""Huey: one worker without its thread, which takes and executes tasks exactly as its consumer does.

More workers are slower: every one takes the same exclusive lock. A task is deleted when it is
taken, so a crash loses it: it writes once for each job where the others write twice.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from huey import SqliteHuey


class HueyQueue:
    """A `SqliteHuey` with a task that does nothing."""

    def __init__(self, folder: Path) -> None:
        self._huey = SqliteHuey(filename=str(folder / "huey.db"), fsync=True)
        self._ran = 0

        @self._huey.task()
        def noop() -> None:
            self._ran += 1

        self._noop = noop

    def put(self, count: int) -> None:
        """Store that many tasks."""
        for _ in range(count):
            self._noop()

    def work(self) -> int:
        """Take one after the other and finish it."""
        before = self._ran
        while (task := self._huey.dequeue()) is not None:
            self._huey.execute(task)
        return self._ran - before

    def tidy(self) -> None:
        """It keeps nothing."""

    def connection(self) -> sqlite3.Connection:
        """The connection that writes."""
        connection: sqlite3.Connection = self._huey.storage.conn
        return connection

    def close(self) -> None:
        """Let go of the file."""
        self._huey.storage.close()
