"""A session inside one open transaction: our own, or the caller's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Hashable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeGuard

import asyncpg

from pandora_db.drivers.base import NO_FLAGS, REPEATED, Args, Row, Unit, Written, write_in_turn
from pandora_db.drivers.postgres.arrays import as_columns
from pandora_db.drivers.postgres.errors import LOST, is_passing, translate
from pandora_db.drivers.tasks import finish
from pandora_db.errors import (
    ConnectionFailed,
    Duplicate,
    HandleForked,
    InvalidInput,
    PandoraDbError,
    TransactionAborted,
)
from pandora_db.models.checks import type_name
from pandora_db.sqlfiles import Catalogue

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any]


class PostgresTransaction:
    """Statements of one connection, one at a time whoever asks."""

    def __init__(
        self, connection: Connection, queries: Catalogue, target: str, depth: int = 0
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._target = target
        self._turn = asyncio.Lock()
        self._depth = depth
        self._cancelled = False
        self._pid = os.getpid()
        self.over = False
        self.committed: bool | None = False

    async def read(self, name: str, args: Args, when: frozenset[str] = NO_FLAGS) -> Sequence[Row]:
        """See `Session.read`."""
        query = self._queries.get(name, when)
        return await self._fetch(query.text, query.statements[0].bind(args))

    async def take(
        self, name: str, args: Args, when: frozenset[str] = NO_FLAGS, *, found_by: str | None = None
    ) -> Sequence[Row]:
        """See `Session.take`; a transaction whose connection is lost is undone."""
        del found_by
        return await self.read(name, args, when)

    async def find_outcome(self, name: str, args: Args) -> Sequence[Row]:
        """See `Session.find_outcome`; a transaction whose connection is lost is undone."""
        return await self.read(name, args)

    async def write(
        self, name: str, args: Args, key: Hashable, *, repeated: bool = False
    ) -> Row | None:
        """See `Session.write`."""
        del key
        rows = await self._operate(name, [args], repeated=repeated)
        return rows[0][1:] if rows else None

    async def write_each(self, name: str, args: Sequence[Args], key: str) -> list[Written]:
        """See `Session.write_each`."""
        return await write_in_turn(self, name, args, key)

    async def write_all(
        self, name: str, args: Sequence[Args], *, repeated: bool = False
    ) -> list[Row | None]:
        """See `Unit.write_all`."""
        results: list[Row | None] = [None] * len(args)
        for row in await self._operate(name, args, repeated=repeated):
            results[row[0] - 1] = row[1:]
        return results

    async def _operate(self, name: str, args: Sequence[Args], *, repeated: bool) -> Sequence[Row]:
        query = self._queries.get(name, REPEATED if repeated else NO_FLAGS)
        columns = tuple(as_columns(list(map(query.statements[0].bind, args))))
        if not repeated:
            return await self._fetch(query.text, columns)
        # The same operation may be under way in another transaction: its end is waited for, and the
        # refusal then must not take along what was done here before.
        for last in (False, False, True):
            try:
                async with self._savepoint() as inner:
                    return await inner._fetch(query.text, columns)  # noqa: SLF001 - one of us
            except Duplicate as error:
                if error.__cause__ is None or not is_passing(error.__cause__):
                    raise
                if last:  # a snapshot that does not show what the other one did
                    raise TransactionAborted(
                        f"another transaction did the same operation ({self._target}); run it again"
                    ) from error
        raise AssertionError("unreachable")

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise HandleForked
        if self._connection.is_closed() and not self.over:
            raise ConnectionFailed("the connection was lost", target=self._target)
        if self.over or not self._connection.is_in_transaction():
            raise TransactionAborted("this transaction is over; its `tx` leads nowhere")

    async def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> int:
        """See `Unit.load`."""
        async with self._statement():
            status = await self._connection.copy_records_to_table(
                table,
                records=_gently(rows),
                columns=columns,
                schema_name=self._queries.schema.strip('"'),
                timeout=_LOAD_TIMEOUT,
            )
        return _count(status)

    @asynccontextmanager
    async def _statement(self, *, check: bool = True) -> AsyncGenerator[None, None]:
        """The turn for one statement; BEGIN and its like run outside a transaction, unchecked."""
        async with self._turn:
            if check:
                self._check()
            try:
                await self._answered()
                yield
            except asyncio.CancelledError:
                self._cancelled = True
                raise
            except (*LOST, asyncpg.PostgresError) as error:
                raise self._failed(error) from error

    async def _answered(self) -> None:
        """Wait for the end of a cancelled statement; asyncpg itself would wait for ever."""
        if self._cancelled:
            with suppress(asyncpg.InFailedSQLTransactionError):
                async with asyncio.timeout(_PATIENCE):
                    await self._connection.execute(self._queries.get("ping").text)
            self._cancelled = False

    def _failed(self, error: BaseException) -> PandoraDbError:
        if isinstance(error, LOST):
            self._connection.terminate()  # what comes next might wait for the answer for ever
        return translate(error, self._target)

    def unit(self) -> AbstractAsyncContextManager[Unit]:
        """See `Session.unit`."""
        return self._savepoint()

    @asynccontextmanager
    async def _savepoint(self) -> AsyncGenerator[PostgresTransaction, None]:
        # Others wait: what a unit undoes must not take along what they were told is done.
        async with self._turn:
            self._check()
            inner = type(self)(self._connection, self._queries, self._target, self._depth + 1)
            name = f"unit_{self._depth + 1}"
            await inner.run(f"SAVEPOINT {name}")
            try:
                yield inner
            except BaseException:
                if not self._connection.is_closed():
                    # Cancelled once more here, half of it would be committed with the rest.
                    await finish(inner.run(f"ROLLBACK TO {name}"))
                raise
            else:
                await inner.run(f"RELEASE {name}")
                inner.committed = True
            finally:
                inner.over = True

    async def run(self, statement: str, timeout: float | None = None) -> None:
        """Run a statement that answers with no rows; `timeout` in seconds."""
        async with self._statement(check=False):
            await self._connection.execute(statement, timeout=timeout)

    async def roll_back(self) -> None:
        """Undo everything; a connection that is gone has been rolled back by the server."""
        with suppress(PandoraDbError):
            await self.run("ROLLBACK")

    async def _fetch(
        self, text: str, values: tuple[Any, ...], timeout: float | None = None
    ) -> Sequence[Row]:
        async with self._statement():
            return await self._connection.fetch(text, *values, timeout=timeout)


async def _gently(rows: Iterable[Row]) -> AsyncGenerator[Row, None]:
    """The rows, letting other tasks run now and then: encoding them blocks the loop (P12)."""
    for index, row in enumerate(rows):
        if index % _AT_ONCE == 0:
            await asyncio.sleep(0)
        yield row


_AT_ONCE = 500
_PATIENCE = 5.0
"""Seconds for the server to end a statement that was cancelled."""
_LOAD_TIMEOUT = 600.0
"""Seconds that one COPY may take: it carries as many rows as the caller has."""


def _is_connection(value: object) -> TypeGuard[Connection]:
    return isinstance(value, asyncpg.Connection)


def bound(connection: object, queries: Catalogue, target: str) -> PostgresTransaction:
    """A session on the asyncpg connection that the caller opened.

    Raises:
        InvalidInput: another kind of connection, a closed one, or one without a transaction.
    """
    own: object = getattr(connection, "_con", connection)  # what a pool hands out is a proxy
    if own is None and connection is not None:
        raise InvalidInput("the connection was released to its pool", field="connection")
    if not _is_connection(own):
        raise InvalidInput(
            f"bind() on PostgreSQL takes an asyncpg connection, not {type_name(connection)}",
            field="connection",
        )
    if own.is_closed():
        raise InvalidInput("the connection is closed", field="connection")
    if not own.is_in_transaction():
        raise InvalidInput(
            "the connection has no transaction open: use `async with connection.transaction()`",
            field="connection",
        )
    return _Guest(own, queries, target)


class _Guest(PostgresTransaction):
    """The caller's transaction; the codecs of the connection are the caller's too."""

    def _failed(self, error: BaseException) -> PandoraDbError:
        return translate(error, self._target)

    async def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> int:
        """See `Unit.load`; as text, since a codec for JSON would make binary rows impossible."""
        async with self._statement():
            status = await self._connection.copy_to_table(
                table,
                source=_copy_text(rows),
                columns=columns,
                schema_name=self._queries.schema.strip('"'),
                format="text",
                timeout=_LOAD_TIMEOUT,
            )
        return _count(status)


def _count(status: str) -> int:
    """The rows of a COPY, from how the server answers it: 'COPY 500'."""
    return int(status.rpartition(" ")[2])


async def _copy_text(rows: Iterable[Row]) -> AsyncGenerator[bytes, None]:
    async for row in _gently(rows):
        yield ("\t".join(map(_copy_field, row)) + "\n").encode()


def _copy_field(value: object) -> str:
    if isinstance(value, bytes):
        return rf"\\x{value.hex()}"
    return r"\N" if value is None else str(value).translate(_COPY_ESCAPES)


_COPY_ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
