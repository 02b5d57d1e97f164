"""A session inside one open transaction: our own, or the caller's."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Protocol, TypeVar

from pandora_db.drivers.base import NO_FLAGS, REPEATED, Args, Row, Unit
from pandora_db.drivers.sqlite.errors import translate
from pandora_db.drivers.sqlite.hop import Hop
from pandora_db.drivers.sqlite.work import Result, Worker, plain, plain_cursor
from pandora_db.drivers.tasks import settle
from pandora_db.errors import InvalidInput, TransactionAborted
from pandora_db.sqlfiles import Catalogue

T = TypeVar("T")


class Submit(Protocol):
    """How work reaches the connection's thread."""

    def __call__(self, work: Callable[[sqlite3.Connection], T], /) -> asyncio.Future[T]:
        """Queue the work."""
        ...


class SqliteTransaction:
    """Every operation is one hop and whole in itself: a refused one leaves the rest usable."""

    def __init__(self, submit: Submit, queries: Catalogue, path: str) -> None:
        self._submit = submit
        self._queries = queries
        self._path = path
        self._worker = Worker()
        self._depth = 0
        self._over = False

    async def read(self, name: str, args: Args, when: frozenset[str] = NO_FLAGS) -> list[Row]:
        """See `Session.read`."""
        return await self._operate(name, args, when)

    async def write(
        self, name: str, args: Args, key: Hashable, *, repeated: bool = False
    ) -> Row | None:
        """See `Session.write`."""
        del key
        rows = await self._operate(name, args, REPEATED if repeated else NO_FLAGS)
        return rows[0] if rows else None

    async def write_all(self, name: str, args: Sequence[Args]) -> list[Row | None]:
        """See `Unit.write_all`."""
        self._check()
        query = self._queries.get(name)

        def operate(connection: sqlite3.Connection) -> list[Result]:
            return [self._worker.run_alone(connection, query, one) for one in args]

        results: list[Row | None] = []
        for result in await self._run(operate):
            if isinstance(result, sqlite3.Error):
                raise translate(result, self._path) from result
            results.append(result[0] if result else None)
        return results

    async def load(self, table: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        """See `Unit.load`."""
        query = self._queries.get(f"load_{table}")
        self._check()
        await self._run(partial(self._worker.run_many, query=query, columns=columns, rows=rows))

    @asynccontextmanager
    async def _savepoint(self) -> AsyncGenerator[Unit, None]:
        self._depth += 1
        name = f"unit_{self._depth}"
        await self._say(f"SAVEPOINT {name}")
        try:
            yield self
        except BaseException:
            await self._say(f"ROLLBACK TO {name}")
            await self._say(f"RELEASE {name}")
            raise
        else:
            await self._say(f"RELEASE {name}")
        finally:
            self._depth -= 1

    def unit(self) -> AbstractAsyncContextManager[Unit]:
        """See `Session.unit`."""
        return self._savepoint()

    async def begin(self) -> None:
        """Take the write lock of the file."""
        try:
            await self._say("BEGIN IMMEDIATE")
        except asyncio.CancelledError:
            await self.roll_back()  # the thread has begun it all the same
            raise

    @asynccontextmanager
    async def ended(self) -> AsyncGenerator[None, None]:
        """Commit what the body did, or undo it when the body or the commit fails."""
        try:
            yield
            await self._say("COMMIT")
        except BaseException:
            await self.roll_back()
            raise
        finally:
            self._over = True

    async def roll_back(self) -> None:
        """Undo everything but the ids that were given out: those never come twice."""
        last = self._queries.get("last_reserved_id").text
        keep = self._queries.get("keep_reserved_ids").text
        await self._run(partial(_roll_back, last=last, keep=keep))

    async def _operate(self, name: str, args: Args, when: frozenset[str]) -> list[Row]:
        self._check()
        query = self._queries.get(name, when)
        values = plain(args)

        def operate(connection: sqlite3.Connection) -> Result:
            if not connection.in_transaction and connection.isolation_level is None:
                raise TransactionAborted(
                    "the transaction is over: the engine gave it up, or its owner ended it"
                )
            return self._worker.run_alone(connection, query, values)

        result = await self._run(operate)
        if isinstance(result, sqlite3.Error):
            raise translate(result, self._path) from result
        return result

    def _check(self) -> None:
        # The next transaction may be under way on the same connection.
        if self._over:
            raise TransactionAborted("this transaction is over; its `tx` leads nowhere")

    async def _say(self, statement: str) -> None:
        await self._run(lambda connection: plain_cursor(connection).execute(statement).close())

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await settle(self._submit(work))
        except sqlite3.Error as error:
            raise translate(error, self._path) from error


def _roll_back(connection: sqlite3.Connection, last: str, keep: str) -> None:
    if not connection.in_transaction:
        return
    cursor = plain_cursor(connection)
    try:
        reserved = cursor.execute(last).fetchone()
    except sqlite3.Error:  # no tables yet, or a disk that answers nothing: there is no id to keep
        reserved = None
    cursor.execute("ROLLBACK")
    if reserved is not None:
        cursor.execute(keep, reserved)


def bound(connection: object, queries: Catalogue) -> SqliteTransaction:
    """A session on the aiosqlite connection that the caller opened.

    Raises:
        InvalidInput: another kind of connection, a closed one, or one that commits by itself.
    """
    import aiosqlite  # noqa: PLC0415

    if not isinstance(connection, aiosqlite.Connection):
        raise InvalidInput(
            f"bind() on SQLite takes an aiosqlite.Connection, not {type(connection).__name__}",
            field="connection",
        )
    try:
        alone = connection.isolation_level is None and not connection.in_transaction
    except ValueError as error:
        raise InvalidInput("the connection is closed", field="connection") from error
    if alone:
        raise InvalidInput(
            "the connection has no transaction open, and commits every statement by itself: "
            "execute BEGIN IMMEDIATE first",
            field="connection",
        )
    return SqliteTransaction(Hop(connection).submit, queries, "the caller's database")
