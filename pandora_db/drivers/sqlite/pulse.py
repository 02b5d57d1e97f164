"""The heartbeat's way to the database: through the writer's thread, past the event loop.

A connection of its own would be a second writer of the process, which meets the WAL-reset race of
every SQLite before 3.51.3.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, cast

from pandora_db.drivers.base import Args, Row
from pandora_db.drivers.sqlite.errors import translate
from pandora_db.drivers.sqlite.hop import Hop
from pandora_db.drivers.sqlite.work import Worker, plain
from pandora_db.errors import LockTimeout
from pandora_db.sqlfiles import Catalogue


class SqlitePulse:
    """Runs queries between the flights of the writer."""

    def __init__(self, hop: Hop, queries: Catalogue, path: str) -> None:
        self._hop = hop
        self._queries = queries
        self._worker = Worker(queries)
        self._path = path

    def run(self, name: str, args: Args, seconds: float) -> Sequence[Row]:
        """See `Pulse.run`."""
        query = self._queries.get(name)
        values = plain(args)

        def work(connection: sqlite3.Connection) -> list[Any] | None:
            # What is written inside somebody's transaction would go with it when it is undone.
            if connection.in_transaction:
                return None
            (result,) = self._worker.write_all(connection, [(query, values)])
            if isinstance(result, Exception):
                raise result
            return result

        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            rows = self._in_thread(work, deadline)
            if rows is not None:
                return rows
            time.sleep(0.02)
        raise LockTimeout(f"a transaction on {self._path} stays open")

    def _in_thread(
        self, work: Callable[[sqlite3.Connection], list[Any] | None], deadline: float
    ) -> list[Any] | None:
        answers: SimpleQueue[Any] = SimpleQueue()
        self._hop.post_from_thread(work, answers.put)
        try:
            answer = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            raise LockTimeout(f"the writer of {self._path} is busy") from None
        if isinstance(answer, sqlite3.Error):
            raise translate(answer, self._path) from answer
        if isinstance(answer, BaseException):
            raise answer
        return cast("list[Any] | None", answer)

    def close(self) -> None:
        """See `Pulse.close`; the connection is the driver's."""
