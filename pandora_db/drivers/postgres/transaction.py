"""A session inside one open transaction: our own, or the caller's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeGuard

import asyncpg

from pandora_db.drivers.base import NO_FLAGS, REPEATED, Args, Row, Unit
from pandora_db.drivers.postgres.errors import translate
from pandora_db.errors import InvalidInput, PandoraDbError, TransactionAborted
from pandora_db.sqlfiles import Catalogue

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any]


class PostgresTransaction:
    """Statements of one connection, one at a time whoever asks."""

    def __init__(self, connection: Connection, queries: Catalogue, target: str) -> None:
        self._connection = connection
        self._queries = queries
        self._target = target
        self._turn = asyncio.Lock()
        self._depth = 0
        self.over = False

    async def read(self, name: str, args: Args, when: frozenset[str] = NO_FLAGS) -> Sequence[Row]:
        """See `Session.read`."""
        query = self._queries.get(name, when)
        return await self._fetch(query.text, query.statements[0].bind(args))

    async def write(
        self, name: str, args: Args, key: Hashable, *, repeated: bool = False
    ) -> Row | None:
        """See `Session.write`."""
        del key
        query = self._queries.get(name, REPEATED if repeated else NO_FLAGS)
        columns = tuple([value] for value in query.statements[0].bind(args))
        rows = await self._fetch(query.text, columns)
        return rows[0][1:] if rows else None

    async def write_all(self, name: str, args: Sequence[Args]) -> list[Row | None]:
        """See `Unit.write_all`."""
        query = self._queries.get(name)
        columns = zip(*map(query.statements[0].bind, args), strict=True)
        results: list[Row | None] = [None] * len(args)
        for row in await self._fetch(query.text, tuple(columns)):
            results[row[0] - 1] = row[1:]
        return results

    def _check(self) -> None:
        if self.over or not self._connection.is_in_transaction():
            raise TransactionAborted("this transaction is over; its `tx` leads nowhere")

    async def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """See `Unit.load`."""
        async with self._turn:
            self._check()
            try:
                await self._connection.copy_records_to_table(
                    table,
                    records=_gently(rows),
                    columns=columns,
                    schema_name=self._queries.schema.strip('"'),
                    timeout=LOAD_TIMEOUT,
                )
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                raise translate(error, self._target) from error

    def unit(self) -> AbstractAsyncContextManager[Unit]:
        """See `Session.unit`."""
        return self._savepoint()

    @asynccontextmanager
    async def _savepoint(self) -> AsyncGenerator[Unit, None]:
        self._depth += 1
        name = f"unit_{self._depth}"
        await self.run(f"SAVEPOINT {name}")
        try:
            yield self
        except BaseException:
            if not self._connection.is_closed():
                await self.run(f"ROLLBACK TO {name}")
            raise
        else:
            await self.run(f"RELEASE {name}")
        finally:
            self._depth -= 1

    async def run(self, statement: str, timeout: float | None = None) -> None:
        """Run a statement that answers with no rows; `timeout` in seconds."""
        async with self._turn:
            try:
                await self._connection.execute(statement, timeout=timeout)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                raise translate(error, self._target) from error

    async def roll_back(self) -> None:
        """Undo everything; a connection that is gone has been rolled back by the server."""
        with suppress(PandoraDbError):
            await self.run("ROLLBACK")

    async def _fetch(
        self, text: str, values: tuple[Any, ...], timeout: float | None = None
    ) -> Sequence[Row]:
        async with self._turn:
            self._check()
            try:
                return await self._connection.fetch(text, *values, timeout=timeout)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
                raise translate(error, self._target) from error


async def _gently(rows: Sequence[Row]) -> AsyncGenerator[Row, None]:
    """The rows, letting other tasks run now and then: encoding them blocks the loop (P12)."""
    for index, row in enumerate(rows):
        if index % _AT_ONCE == 0:
            await asyncio.sleep(0)
        yield row


_AT_ONCE = 500
LOAD_TIMEOUT = 600.0
"""Seconds that one COPY may take: it carries as many rows as the caller has."""


def _is_connection(value: object) -> TypeGuard[Connection]:
    return isinstance(value, asyncpg.Connection)


def bound(connection: object, queries: Catalogue, target: str) -> PostgresTransaction:
    """A session on the asyncpg connection that the caller opened.

    Raises:
        InvalidInput: another kind of connection, a closed one, or one without a transaction.
    """
    own: object = getattr(connection, "_con", connection)  # what a pool hands out is a proxy
    if not _is_connection(own):
        kind = type(connection).__name__
        raise InvalidInput(
            f"bind() on PostgreSQL takes an asyncpg connection, not {kind}", field="connection"
        )
    if own.is_closed():
        raise InvalidInput("the connection is closed", field="connection")
    if not own.is_in_transaction():
        raise InvalidInput(
            "the connection has no transaction open: use `async with connection.transaction()`",
            field="connection",
        )
    return PostgresTransaction(own, queries, target)
