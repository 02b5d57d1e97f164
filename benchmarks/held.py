"""The raw side of row 3: the library's own SQL text by a bare `fetch` on one held connection.

Its arguments are made before the clock starts, and the connection has the settings of the library's
own: what remains between the two sides is the library.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.rounds import crowd
from benchmarks.work import Moves, Ours, new_job
from pandora_db import JobDb
from pandora_db.codecs.job import encode_job
from pandora_db.store.operation import operation

if TYPE_CHECKING:
    import asyncpg

    from pandora_db.drivers.postgres import PostgresDriver

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
        (self._insert,) = driver.queries.get("insert_job").statements
        (self._update,) = driver.queries.get("update_stage").statements
        self._read = driver.queries.get("get_job").text

    async def inserts(self, seconds: float) -> float:
        """Store jobs for so long; the rate."""
        job = encode_job(new_job(0))._asdict()
        made = [
            tuple(
                [value] for value in self._insert.bind(job | {"operation_id": operation(None).id})
            )
            for _ in range(int(_PER_SECOND * seconds))
        ]
        return await self._run(self._insert.text, iter(made), seconds)

    async def updates(self, seconds: float) -> float:
        """Move jobs on for so long; the rate."""
        made: list[tuple[Any, ...]] = []
        for _ in range(int(_PER_SECOND * seconds)):
            if not self._moves.left:
                self._moves.rewind()
            job_id, stage = self._moves.next()
            args = {"job_id": job_id, "stage": stage, "lowest": 0, "highest": 5}
            values = self._update.bind(args | {"operation_id": operation(None).id})
            made.append(tuple([value] for value in values))
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
