"""The other side of rows 3 and 4: the library's own SQL text, or its rows, by the driver alone.

The arguments are made before the clock starts, and the connection has the settings of the library's
own: what remains between the two sides is the library. PostgreSQL: a bare `fetch` on one held
connection. SQLite: aiosqlite behind a lock, an `execute` for each statement that writes, then
`commit`; the library's third statement, which answers whether anything was done, is left out.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiosqlite

from benchmarks.rounds import crowd
from benchmarks.work import Moves, Ours, new_job
from pandora_db import JobDb, Settings, Stage
from pandora_db.codecs.job import encode_job
from pandora_db.drivers.postgres.alike import Alike
from pandora_db.drivers.postgres.arrays import as_columns
from pandora_db.drivers.sqlite.driver import writer_pragmas
from pandora_db.models.stage import StageKind
from pandora_db.store.operation import operation

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg

    from pandora_db.drivers.postgres import PostgresDriver
    from pandora_db.sqlfiles import Catalogue

# More calls than one caller makes in a second.
_PER_SECOND = 8_000


class Held:
    """The three calls of row 3."""

    def __init__(
        self, connection: asyncpg.Connection[Any], driver: PostgresDriver, ids: list[int], seed: int
    ) -> None:
        self.connection = connection
        self._moves = Moves(list(ids), seed)
        self._reads = itertools.cycle(ids)
        self._insert = Alike(driver.queries, "insert_job")  # what the library sends
        (self._update,) = driver.queries.get("update_stage").statements
        self._read = driver.queries.get("get_job").text

    async def inserts(self, seconds: float) -> float:
        """Store jobs for so long; the rate."""
        made = [self._insert_columns(args) for args in _insert_args(seconds)]
        return await self._run(self._insert.text, iter(made), seconds)

    def _insert_columns(self, args: dict[str, Any]) -> tuple[Any, ...]:
        columns = self._insert.columns([args])
        assert columns is not None, "new_job() says an id or a key"
        return tuple(columns)

    async def updates(self, seconds: float) -> float:
        """Move jobs on for so long; the rate."""
        made = [
            tuple(as_columns([self._update.bind(args)]))
            for args in _update_args(self._moves, seconds)
        ]
        return await self._run(self._update.text, iter(made), seconds)

    async def _run(self, text: str, made: Iterator[tuple[Any, ...]], seconds: float) -> float:
        fetch = self.connection.fetch

        async def call() -> None:
            await fetch(text, *next(made))

        return await crowd(1, seconds, call)

    async def read(self) -> None:
        """Get one job."""
        assert await self.connection.fetch(self._read, next(self._reads))


@asynccontextmanager
async def held(dsn: str, seed: int) -> AsyncIterator[Held]:
    """Fill the empty database of `dsn` like the library's own, and hold a connection to it."""
    async with JobDb.open(dsn) as db:
        ours = await Ours.filled(db, seed)
        driver: PostgresDriver = db._driver  # type: ignore[assignment]  # noqa: SLF001
        connection = await driver._connect()  # noqa: SLF001
        try:
            yield Held(connection, driver, ours.ids, seed)
        finally:
            await connection.close()


class HeldSqlite:
    """The two writes of row 3, and the rows of row 4."""

    def __init__(
        self, connection: aiosqlite.Connection, queries: Catalogue, ids: list[int], seed: int
    ) -> None:
        self.connection = connection
        self._lock = asyncio.Lock()
        self._moves = Moves(list(ids), seed)
        # The last statement of each only answers whether it did anything.
        self._insert = queries.get("insert_job").statements[:2]
        self._update = queries.get("update_stage").statements[:2]
        (self._load,) = queries.get("load_jobs").statements

    async def inserts(self, seconds: float) -> float:
        """Store jobs for so long; the rate."""
        one, two = self._insert
        made = [(one.bind(args), two.bind(args)) for args in _insert_args(seconds)]
        return await self._run(one.text, two.text, iter(made), seconds)

    async def updates(self, seconds: float) -> float:
        """Move jobs on for so long; the rate."""
        one, two = self._update
        made = [(one.bind(args), two.bind(args)) for args in _update_args(self._moves, seconds)]
        return await self._run(one.text, two.text, iter(made), seconds)

    async def load(self, rows: list[tuple[object, ...]]) -> None:
        """Store rows of `load_jobs`."""
        await self.connection.executemany(self._load.text, rows)
        await self.connection.commit()

    async def _run(
        self, one: str, two: str, made: Iterator[tuple[Any, ...]], seconds: float
    ) -> float:
        connection = self.connection

        async def call() -> None:
            first, second = next(made)
            async with self._lock:
                await connection.execute(one, first)
                await connection.execute(two, second)
                await connection.commit()

        return await crowd(1, seconds, call)


@asynccontextmanager
async def held_sqlite(path: Path, seed: int) -> AsyncIterator[HeldSqlite]:
    """Fill a new file like the library's own, and hold a connection to it."""
    async with JobDb.open(path) as db:
        ours = await Ours.filled(db, seed)
        queries = db._driver.queries  # noqa: SLF001
    async with aiosqlite.connect(path) as connection:
        for pragma in writer_pragmas(Settings(), memory=False):
            await connection.execute(f"PRAGMA {pragma}")
        yield HeldSqlite(connection, queries, ours.ids, seed)


def _insert_args(seconds: float) -> Iterator[dict[str, Any]]:
    job = encode_job(new_job(0))
    for _ in range(int(_PER_SECOND * seconds)):
        yield job | {"operation_id": operation(None).id}


def _update_args(moves: Moves, seconds: float) -> Iterator[dict[str, Any]]:
    for _ in range(int(_PER_SECOND * seconds)):
        if not moves.left:
            moves.rewind()
        job_id, stage = moves.next()
        args = {
            "job_id": job_id,
            "stage": stage,
            "lowest": 0,
            "highest": 5,
            "restarts": Stage(stage).kind is StageKind.WAITING,
        }
        yield args | {"operation_id": operation(None).id}
