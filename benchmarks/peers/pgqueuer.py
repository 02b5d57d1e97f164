"""pgqueuer: queue managers that take batches of 100 and log each job when it is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from pgqueuer import AsyncpgDriver, AsyncpgPoolDriver, Job, Queries, QueueManager

from benchmarks.raw_postgres import connect_arguments

BATCH = 100
SET_UPS = {"pgqueuer": (1, True), "pgqueuer x2": (2, True), "pgqueuer x5": (5, False)}
"""Managers, and whether each has a pool or one connection: what its guide to performance says for
high throughput, the same twice, and what its own benchmark does."""


@dataclass(slots=True)
class _Watch:
    """When the first batch was asked for, and when the last job was logged."""

    count: int
    managers: list[QueueManager] = field(default_factory=list)
    logged: int = 0
    start: float | None = None
    end: float = 0.0

    def begin(self) -> None:
        self.start = self.start or time.perf_counter()

    def log(self, count: int) -> None:
        self.logged += count
        self.end = time.perf_counter()
        if self.logged >= self.count:
            for manager in self.managers:
                manager.shutdown.set()

    @property
    def rate(self) -> float:
        assert self.logged == self.count, (self.logged, self.count)
        assert self.start is not None
        return self.count / (self.end - self.start)


class _Watched(Queries):
    watch: _Watch

    async def dequeue(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - handed on
        self.watch.begin()
        return await super().dequeue(*args, **kwargs)

    async def log_jobs(self, job_status: list[Any]) -> None:
        await super().log_jobs(job_status)
        self.watch.log(len(job_status))


class Pgqueuer:
    """Its tables in a database of their own."""

    def __init__(self, connection: asyncpg.Connection[Any], dsn: str) -> None:
        self._connection = connection
        self._dsn = dsn

    async def prepare(self) -> None:
        """Make the tables, with its own advice for autovacuum."""
        queries = Queries(AsyncpgDriver(self._connection))
        await queries.install()
        await queries.optimize_autovacuum()
        kept = "SELECT bool_and(relpersistence = 'p') FROM pg_class WHERE relname ~ '^pgqueuer'"
        assert await self._connection.fetchval(kept), "an unlogged table"

    async def rate(self, set_up: str, count: int) -> float:
        """Jobs per second from the first that is taken to the last that is finished."""
        queries = Queries(AsyncpgDriver(self._connection))
        await queries.enqueue(["noop"] * count, [None] * count, [0] * count)
        for table in ("pgqueuer", "pgqueuer_log"):
            await self._connection.execute(f"VACUUM (ANALYZE) {table}")
        watch = _Watch(count)
        managers, pooled = SET_UPS[set_up]
        async with AsyncExitStack() as stack:
            for _ in range(managers):
                watch.managers.append(await self._manager(stack, watch, pooled=pooled))
            await asyncio.gather(*(manager.run(batch_size=BATCH) for manager in watch.managers))
        assert not await self._connection.fetchval("SELECT count(*) FROM pgqueuer")
        return watch.rate

    @asynccontextmanager
    async def waiting(
        self, begin: Callable[[bytes | None], None]
    ) -> AsyncIterator[Callable[[bytes], Awaitable[object]]]:
        """A manager that waits for jobs and calls `begin` with their payload; yields enqueue."""
        queries = Queries(AsyncpgDriver(self._connection))

        async def enqueue(payload: bytes) -> None:
            await queries.enqueue("pickup", payload)

        async with asyncpg.create_pool(**connect_arguments(self._dsn), min_size=5) as pool:
            manager = QueueManager(Queries(AsyncpgPoolDriver(pool)))

            @manager.entrypoint("pickup")
            async def work(job: Job) -> None:
                begin(job.payload)

            running = asyncio.create_task(manager.run(batch_size=BATCH))
            await asyncio.sleep(1.0)  # until it listens
            try:
                yield enqueue
            finally:
                manager.shutdown.set()
                await running

    async def _manager(self, stack: AsyncExitStack, watch: _Watch, *, pooled: bool) -> QueueManager:
        arguments = connect_arguments(self._dsn)
        driver: AsyncpgDriver | AsyncpgPoolDriver
        if pooled:
            driver = AsyncpgPoolDriver(
                await stack.enter_async_context(asyncpg.create_pool(**arguments, min_size=5))
            )
        else:
            connection = await asyncpg.connect(**arguments)
            stack.push_async_callback(connection.close)
            driver = AsyncpgDriver(connection)
        assert await driver.fetch("SHOW synchronous_commit") == [{"synchronous_commit": "on"}]
        queries = _Watched(driver)
        queries.watch = watch
        manager = QueueManager(queries)

        @manager.entrypoint("noop")
        async def noop(_job: object) -> None:
            """Do nothing."""

        return manager


@asynccontextmanager
async def pgqueuer(dsn: str) -> AsyncIterator[Pgqueuer]:
    """Yield pgqueuer in the empty database of `dsn`."""
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        peer = Pgqueuer(connection, dsn)
        await peer.prepare()
        yield peer
    finally:
        await connection.close()
