"""A connection of the caller's own, for `db.bind`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiosqlite
import asyncpg

from pandora_db.dsn import PostgresTarget, parse_dsn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Caller:
    """The caller's own connection, with the words that both drivers share."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def begin(self) -> None:
        if isinstance(self.connection, aiosqlite.Connection):
            await self.connection.execute("BEGIN IMMEDIATE")
        else:
            self.transaction = self.connection.transaction()
            await self.transaction.start()

    async def buy(self, customer: str) -> None:
        await self.connection.execute(f"INSERT INTO orders VALUES ('{customer}')")

    async def commit(self) -> None:
        if isinstance(self.connection, aiosqlite.Connection):
            await self.connection.commit()
        else:
            await self.transaction.commit()

    async def rollback(self) -> None:
        if isinstance(self.connection, aiosqlite.Connection):
            await self.connection.rollback()
        else:
            await self.transaction.rollback()

    async def close(self) -> None:
        await self.connection.close()


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Caller]:
    target = parse_dsn(url)
    if isinstance(target, PostgresTarget):
        connection: Any = await asyncpg.connect(**target.connect_arguments())
    else:
        assert target.path is not None
        connection = await aiosqlite.connect(target.path)
    try:
        yield Caller(connection)
    finally:
        await connection.close()
