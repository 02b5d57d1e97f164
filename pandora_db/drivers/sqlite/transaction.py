"""A session inside one open transaction: our own, or the caller's."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from typing import Protocol, TypeVar

from pandora_db.drivers.base import NO_FLAGS, REPEATED, Args, Row, Unit, Written, write_in_turn
from pandora_db.drivers.sqlite.errors import translate
from pandora_db.drivers.sqlite.hop import Hop
from pandora_db.drivers.sqlite.work import Result, Worker, plain, plain_cursor
from pandora_db.drivers.tasks import settle
from pandora_db.errors import HandleForked, InvalidInput, TransactionAborted
from pandora_db.models.checks import type_name
from pandora_db.sqlfiles import Catalogue

T = TypeVar("T")


class Submit(Protocol):
    """How work reaches the connection's thread."""

    def __call__(
        self, work: Callable[[sqlite3.Connection], T], /, limit: float | None = None
    ) -> asyncio.Future[T]:
        """Queue the work; its statement is interrupted after `limit` seconds."""
        ...


class SqliteTransaction:
    """Every operation is one hop and whole in itself: a refused one leaves the rest usable."""

    def __init__(
        self,
        submit: Submit,
        queries: Catalogue,
        path: str,
        depth: int = 0,
        *,
        statement_timeout: float | None = None,
    ) -> None:
        self._submit = submit
        self._limit = statement_timeout
        self._queries = queries
        self._path = path
        self._worker = Worker(queries)
        self._turn = asyncio.Lock()
        self._depth = depth
        self._pid = os.getpid()
        self._over = False
        self.committed: bool | None = False

    async def read(self, name: str, args: Args, when: frozenset[str] = NO_FLAGS) -> list[Row]:
        """See `Session.read`."""
        return await self._operate(name, args, when)

    async def take(
        self, name: str, args: Args, when: frozenset[str] = NO_FLAGS, *, found_by: str | None = None
    ) -> Sequence[Row]:
        """See `Session.take`."""
        del found_by
        return await self._operate(name, args, when)

    async def find_outcome(self, name: str, args: Args) -> list[Row]:
        """See `Session.find_outcome`; a transaction whose connection is lost is undone."""
        return await self.read(name, args)

    async def write(
        self, name: str, args: Args, key: Hashable, *, repeated: bool = False
    ) -> Row | None:
        """See `Session.write`."""
        del key
        rows = await self._operate(name, args, REPEATED if repeated else NO_FLAGS)
        return rows[0] if rows else None

    async def write_each(self, name: str, args: Sequence[Args], key: str) -> list[Written]:
        """See `Session.write_each`."""
        return await write_in_turn(self, name, args, key)

    async def write_all(
        self, name: str, args: Sequence[Args], *, repeated: bool = False
    ) -> list[Row | None]:
        """See `Unit.write_all`."""
        query = self._queries.get(name, REPEATED if repeated else NO_FLAGS)

        def operate(connection: sqlite3.Connection) -> list[Result]:
            return [self._worker.run_alone(connection, query, one) for one in args]

        results: list[Row | None] = []
        for result in await self._take_turn(operate, self._limit):
            if isinstance(result, Exception):
                raise translate(result, self._path) from result
            results.append(result[0] if result else None)
        return results

    async def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> int:
        """See `Unit.load`."""
        query = self._queries.get(f"load_{table}")
        return await self._take_turn(
            partial(self._worker.run_many, query=query, columns=columns, rows=rows)
        )

    @asynccontextmanager
    async def _savepoint(self) -> AsyncGenerator[Unit, None]:
        # Others wait: what a unit undoes must not take along what they were told is done.
        async with self._turn:
            self._check()
            inner = SqliteTransaction(
                self._submit,
                self._queries,
                self._path,
                self._depth + 1,
                statement_timeout=self._limit,
            )
            name = f"unit_{self._depth + 1}"
            await self._run(partial(_inside, partial(_execute, statement=f"SAVEPOINT {name}")))
            try:
                yield inner
            except BaseException:
                await self._say(f"ROLLBACK TO {name}")
                await self._say(f"RELEASE {name}")
                raise
            else:
                await self._say(f"RELEASE {name}")
                inner.committed = True
            finally:
                inner._over = True

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
            async with self._turn:
                await self._run(self._commit)
        except BaseException:
            if not self.committed:
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
        query = self._queries.get(name, when)
        values = plain(args)

        def operate(connection: sqlite3.Connection) -> Result:
            return self._worker.run_alone(connection, query, values)

        result = await self._take_turn(operate, self._limit)
        if isinstance(result, Exception):
            raise translate(result, self._path) from result
        return result

    async def _take_turn(
        self, work: Callable[[sqlite3.Connection], T], limit: float | None = None
    ) -> T:
        async with self._turn:
            self._check()
            return await self._run(partial(_inside, work), limit)

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise HandleForked
        # The next transaction may be under way on the same connection.
        if self._over:
            raise TransactionAborted("this transaction is over; its `tx` leads nowhere")

    def _commit(self, connection: sqlite3.Connection) -> None:
        _execute(connection, "COMMIT")
        self.committed = True  # here: whoever waits for it may be cancelled

    async def _say(self, statement: str) -> None:
        await self._run(partial(_execute, statement=statement))

    async def _run(self, work: Callable[[sqlite3.Connection], T], limit: float | None = None) -> T:
        try:
            return await settle(self._submit(work, limit))
        except sqlite3.Error as error:
            raise translate(error, self._path) from error


def _execute(connection: sqlite3.Connection, statement: str) -> None:
    plain_cursor(connection).execute(statement).close()


def _inside(work: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
    # A savepoint outside a transaction would begin one, and commit it at its release.
    if not connection.in_transaction:
        raise TransactionAborted(
            "the transaction is over: the engine gave it up, or its owner ended it"
        )
    return work(connection)


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
        # Not where the tables went too, or another process has the file: there is an error already.
        with suppress(sqlite3.OperationalError):
            cursor.execute(keep, reserved)


def bound(connection: object, queries: Catalogue) -> SqliteTransaction:
    """A session on the aiosqlite connection that the caller opened.

    Raises:
        InvalidInput: another kind of connection, a closed one, or one without a transaction.
    """
    import aiosqlite  # noqa: PLC0415

    if not isinstance(connection, aiosqlite.Connection):
        raise InvalidInput(
            f"bind() on SQLite takes an aiosqlite.Connection, not {type_name(connection)}",
            field="connection",
        )
    try:
        inside = connection.in_transaction
    except ValueError as error:
        raise InvalidInput("the connection is closed", field="connection") from error
    if not inside:
        raise InvalidInput(
            "the connection has no transaction open: execute BEGIN IMMEDIATE first",
            field="connection",
        )
    return SqliteTransaction(_as_guest(Hop(connection)), queries, "the caller's database")


def _as_guest(hop: Hop) -> Submit:
    """Work on the caller's connection, for which text is text whatever its owner makes of it."""

    def submit(
        work: Callable[[sqlite3.Connection], T], limit: float | None = None
    ) -> asyncio.Future[T]:
        def visit(connection: sqlite3.Connection) -> T:
            theirs, connection.text_factory = connection.text_factory, str
            try:
                return work(connection)
            finally:
                connection.text_factory = theirs

        return hop.submit(visit, limit)

    return submit
