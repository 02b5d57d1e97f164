"""What a call must not leave behind: transactions, connections, threads, tasks, files, errors."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import threading
from typing import TYPE_CHECKING, Any, Self

import asyncpg
from psycopg.conninfo import conninfo_to_dict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Within this many seconds of a call's end nothing of it may be left (fault matrix, T15).
SOON = 0.1
# A loaded machine runs late; what is still there after this many seconds is a leak.
LATE = 5.0
NAME = "pandora faults"


class Watch:
    """Looks at a database, and at this process, from outside the handle that is tested."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = url.removeprefix("sqlite:///") if url.startswith("sqlite:") else None
        self.late = 0  # how often something was there longer than SOON
        self.errors: list[str] = []
        self._server: asyncpg.Connection[Any] | None = None
        self._file: sqlite3.Connection | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        if self.path is None:
            self._server = await connect_directly(self.url)
        asyncio.get_running_loop().set_exception_handler(self._note)
        self._before = self._usage()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            await self._server.close()
        if self._file is not None:
            self._file.close()
        gc.collect()
        await asyncio.sleep(0)
        asyncio.get_running_loop().set_exception_handler(None)
        assert not self.errors, self.errors

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.errors.append(f"{context['message']}: {context.get('exception')!r}")

    async def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a query whose parameters are written `%s`."""
        if self._server is not None:
            for number in range(1, len(values) + 1):
                statement = statement.replace("%s", f"${number}", 1)
            async with self._turn:
                return [tuple(row) for row in await self._server.fetch(statement, *values)]
        assert self.path is not None
        if self._file is None:
            self._file = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
        return self._file.execute(statement.replace("%s", "?"), values).fetchall()

    async def nothing_open(self, connections: int | None = None) -> None:
        """No transaction is open, and no more than `connections` are."""
        if self.path is None:
            await self._soon(lambda: self._sessions(connections))
        else:
            await self._soon(self._lock_is_free)

    async def _sessions(self, connections: int | None) -> str:
        rows = await self.rows(
            "SELECT state, query FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name = %s",
            NAME,
        )
        busy = [f"{state}: {query[:60]}" for state, query in rows if state != "idle"]
        if busy:
            return f"sessions are busy: {busy}"
        if connections is not None and len(rows) > connections:
            return f"{len(rows)} sessions, expected at most {connections}"
        return ""

    async def _lock_is_free(self) -> str:
        assert self.path is not None
        other = sqlite3.connect(self.path, isolation_level=None, timeout=0)
        try:
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        except sqlite3.OperationalError as error:
            return f"the write lock is held: {error}"
        finally:
            other.close()
        return ""

    async def nothing_left(self) -> None:
        """As many threads, tasks and file handles as when the watch began, and no session."""
        await self.nothing_open(0)

        async def grown() -> str:
            now = self._usage()
            return "" if all(map(int.__le__, now, self._before)) else f"{self._before} → {now}"

        await self._soon(grown)

    def _usage(self) -> tuple[int, int, int]:
        if self._file is not None:
            self._file.close()
            self._file = None
        tasks = len(asyncio.all_tasks())
        # The loop's own executor keeps its threads until the loop is closed.
        threads = sum(not thread.name.startswith("asyncio_") for thread in threading.enumerate())
        return threads, tasks, len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    async def only_tasks(self, known: set[asyncio.Task[Any]]) -> None:
        """No task runs but the known ones."""

        async def others() -> str:
            return ", ".join(str(task.get_coro()) for task in asyncio.all_tasks() - known)

        await self._soon(others)

    async def _soon(self, complaint: Callable[[], Any]) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        while found := await complaint():
            waited = loop.time() - start
            assert waited < LATE, f"after {waited:.1f} s: {found}"
            await asyncio.sleep(0.005)
        self.late += loop.time() - start > SOON


async def connect_directly(dsn: str) -> asyncpg.Connection[Any]:
    """Open a connection that has nothing to do with the library."""
    parts = conninfo_to_dict(dsn)
    return await asyncpg.connect(
        host=str(parts["host"]),
        port=int(parts.get("port") or 5432),
        user=str(parts["user"]),
        password=parts.get("password"),
        database=str(parts["dbname"]),
        server_settings={"application_name": "pandora watch"},
    )


async def footprint(watch: Watch, author: str) -> Sequence[tuple[Any, ...]]:
    """Everything that the jobs of `author` left in the database, times and ids aside."""
    jobs = await watch.rows(
        "SELECT ready, archived, hold, error, priority, attempt, progress, event_seq "
        "FROM jobs WHERE author = %s ORDER BY job_id",
        author,
    )
    events = await watch.rows(
        "SELECT count(*) OVER (PARTITION BY job_id), seq, kind, stage FROM job_events "
        "WHERE job_id IN (SELECT job_id FROM jobs WHERE author = %s) ORDER BY job_id, seq",
        author,
    )
    deleted = await watch.rows("SELECT stage FROM job_deletions WHERE author = %s", author)
    return (*jobs, *events, *deleted)
