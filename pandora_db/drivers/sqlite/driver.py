"""The SQLite driver: a lane that writes, a lane that reads, and the door to both."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from pandora_db.config import Settings
from pandora_db.drivers.base import (
    MIGRATION_PATIENCE,
    NO_FLAGS,
    REPEATED,
    Args,
    Guard,
    OnNews,
    Row,
    Session,
    Unit,
    Written,
    outcomes_of,
)
from pandora_db.drivers.sqlite.bell import SqliteBell
from pandora_db.drivers.sqlite.crowd import Call, runs
from pandora_db.drivers.sqlite.errors import translate
from pandora_db.drivers.sqlite.file import prepare
from pandora_db.drivers.sqlite.health import read_health, wal_reset_race
from pandora_db.drivers.sqlite.hop import Hop
from pandora_db.drivers.sqlite.lane import Lane
from pandora_db.drivers.sqlite.migrator import SqliteMigrator
from pandora_db.drivers.sqlite.neighbours import Neighbours
from pandora_db.drivers.sqlite.pulse import SqlitePulse
from pandora_db.drivers.sqlite.rivals import Rivals
from pandora_db.drivers.sqlite.rows import answer_of
from pandora_db.drivers.sqlite.transaction import SqliteTransaction, bound
from pandora_db.drivers.sqlite.work import Worker, plain
from pandora_db.drivers.tasks import finish, settle
from pandora_db.dsn import SqliteTarget
from pandora_db.errors import ConnectionFailed
from pandora_db.models.health import Health, PoolUse
from pandora_db.sqlfiles import Catalogue, Dialect

T = TypeVar("T")
log = logging.getLogger("pandora_db")


class SqliteDriver:
    """One writer connection and one reader per process; `:memory:` has one connection for both."""

    dialect: Dialect = "sqlite"

    def __init__(self, target: SqliteTarget, settings: Settings) -> None:
        self.queries = Catalogue("sqlite", "main")
        self.guard = Guard()
        self._path = target.describe()
        self._memory = target.path is None
        self._settings = settings
        self._lanes: tuple[Lane, ...] = ()

    async def open(self) -> None:
        """Make or check the file, then connect.

        Raises:
            StorageDamaged: the file is empty, cut short, or no SQLite database.
            ForeignSchema: the file belongs to another application.
            ConnectionFailed: the folder or file cannot be used.
            StorageReadOnly: the file accepts no writes.
        """
        if not self._memory:
            making = asyncio.to_thread(
                prepare, Path(self._path), folders=self._settings.make_folders
            )
            await settle(asyncio.ensure_future(making))
        try:
            await self._open()
        except sqlite3.Error as error:
            await self._disconnect()
            raise translate(error, self._path) from error
        except BaseException:
            await self._disconnect()
            raise
        self.guard.state = "open"
        if self._settings.synchronous == "normal" and not self._memory:
            log.warning(
                "%s: synchronous=normal may lose the last writes in a power cut", self._path
            )
        if self._at_risk:
            log.info(
                "opened %s with SQLite %s, which is safe for one process per file only",
                self._path,
                sqlite3.sqlite_version,
            )

    @property
    def _at_risk(self) -> bool:
        """Whether another process on the file could cost it."""
        return not self._memory and wal_reset_race(sqlite3.sqlite_version_info)

    async def _open(self) -> None:
        worker = Worker(self.queries)
        writer = await self._connect(writer_pragmas(self._settings, memory=self._memory))
        self._writer = Lane(writer, worker.write_all, self._settings, self._path)
        self._reader = self._writer
        self._lanes = (self._writer,)
        if self._at_risk:
            worker.rivals = await settle(writer.submit(partial(Rivals, path=self._path)))
        self._neighbours = Neighbours(None if self._memory else self._path)
        self._changes = writer.changes
        self._writer.on_release = self._released
        if not self._memory:
            reader = await self._connect(_READER_PRAGMAS)
            self._reader = Lane(reader, Worker(self.queries).read_all, self._settings, self._path)
            self._lanes = (self._writer, self._reader)

    async def _connect(self, pragmas: Sequence[str]) -> Hop:
        # mode=rw: SQLite must not make the file, prepare() has.
        path = ":memory:" if self._memory else f"file:{quote(self._path)}?mode=rw"
        hop = await Hop.open(path, uri=True, timeout=self._settings.lock_timeout)
        try:
            await settle(
                hop.submit(partial(_set_up, pragmas=pragmas, patience=self._settings.lock_timeout))
            )
        except BaseException:
            await hop.close()
            raise
        return hop

    async def close(self) -> None:
        """Let running calls end within `close_timeout`, then disconnect; may be called again."""
        if self.guard.state != "open" or self.guard.elsewhere:
            return
        self.guard.state = "closed"
        try:
            async with asyncio.timeout(self._settings.close_timeout):
                for lane in self._lanes:
                    await lane.drain()
        except TimeoutError:
            log.warning("close: calls on %s did not end in time; they are cut off", self._path)
            for lane in self._lanes:
                lane.hop.interrupt()
        finally:
            await self._disconnect()

    async def _disconnect(self) -> None:
        # The reader first: the last connection to go folds the WAL into the file.
        lanes, self._lanes = self._lanes, ()
        for lane in lanes:
            lane.on_release = None
        await finish(_close(lanes))

    async def read(self, name: str, args: Args, when: frozenset[str] = NO_FLAGS) -> list[Row]:
        """See `Session.read`."""
        self.guard.check(name)
        query = self.queries.get(name, when)
        return await self._reader.call(query, plain(args))

    async def find_outcome(self, name: str, args: Args) -> list[Row]:
        """See `Session.find_outcome`; here a write that answers None was not done."""
        return await self.read(name, args)

    def write(
        self, name: str, args: Args, key: Hashable, *, repeated: bool = False
    ) -> Awaitable[Row | None]:
        """See `Session.write`; the one writer takes its calls in order, so `key` matters not.

        Nothing that makes events answers with a boolean or a time here: see `is_read_later`.
        """
        del key
        self.guard.check(name)
        query = self.queries.get(name, REPEATED if repeated else NO_FLAGS)
        return self._writer.call_for_one(query, args)

    async def write_each(self, name: str, args: Sequence[Args], key: str) -> list[Written]:
        """See `Session.write_each`; keys matter no more than in `write`."""
        del key
        self.guard.check(name)
        query = self.queries.get(name)
        return await outcomes_of(await self._writer.call_each([(query, one) for one in args]))

    async def take(
        self, name: str, args: Args, when: frozenset[str] = NO_FLAGS, *, found_by: str | None = None
    ) -> list[Row]:
        """See `Session.take`; no answer is lost inside a process."""
        del found_by
        self.guard.check(name)
        query = self.queries.get(name, when)
        return answer_of(query, await self._writer.call(query, plain(args)))

    def pulse(self) -> SqlitePulse:
        """See `Driver.pulse`."""
        return SqlitePulse(self._writer.hop, self.queries, self._path)

    def bell(self, on_news: OnNews) -> SqliteBell:
        """See `Driver.bell`; of another process a file tells only that it was written to."""
        path = None if self._memory else self._path
        return SqliteBell(path, self._neighbours, self._writer, on_news)

    def _released(self, calls: Sequence[Call] | None) -> None:
        # The connection of `:memory:` reads too, and a look must not ring for the next one.
        changes = self._writer.hop.changes
        if changes == self._changes:
            return
        self._changes = changes
        if not self._neighbours.listen:
            return
        stages = None if calls is None else _arrivals(calls)
        if stages is None or stages:
            self._neighbours.tell(stages)

    def unit(self) -> AbstractAsyncContextManager[Unit]:
        """A transaction that has the write turn from its beginning to its end."""
        self.guard.check("transaction")
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[Unit, None]:
        async with self._writer.turn() as hop:
            transaction = SqliteTransaction(
                hop.submit,
                self.queries,
                self._path,
                statement_timeout=self._settings.statement_timeout,
            )
            await transaction.begin()
            async with transaction.ended():
                with self.guard.inside():
                    yield transaction

    def bind(self, connection: object) -> Session:
        """See `Driver.bind`."""
        self.guard.check("bind")
        return bound(connection, self.queries)

    async def ping(self) -> None:
        """One hop through the reader."""
        self.guard.check("ping")
        await self._in_reader(lambda connection: connection.execute("SELECT 1").fetchall())

    async def health(self, *, deep: bool) -> Health:
        """See `Driver.health`."""
        self.guard.check("health")
        path = None if self._memory else Path(self._path)
        pool = PoolUse(
            size=len(self._lanes),
            idle=sum(lane.waiting == 0 for lane in self._lanes),
            max=len(self._lanes),
            waiting=sum(lane.waiting for lane in self._lanes),
        )
        async with self._writer.turn() as writer:  # what the writer has set is what counts
            modes = await self._in(writer, _modes)
        return await self._in_reader(lambda raw: read_health(raw, path, pool, modes, deep=deep))

    def migrating(self) -> AbstractAsyncContextManager[SqliteMigrator]:
        """See `Driver.migrating`: the write lock of the file is the lock."""
        self.guard.check("init_schema")
        return self._migrating()

    @asynccontextmanager
    async def _migrating(self) -> AsyncGenerator[SqliteMigrator, None]:
        async with self._writer.turn() as hop:
            migrator = SqliteMigrator(
                hop.submit, self.queries, None if self._memory else Path(self._path)
            )
            await migrator.begin_within(MIGRATION_PATIENCE)
            async with migrator.ended():
                yield migrator

    async def _in_reader(self, work: Callable[[sqlite3.Connection], T]) -> T:
        async with self._reader.turn() as hop:
            return await self._in(hop, work)

    async def _in(self, hop: Hop, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await settle(hop.submit(work))
        except sqlite3.Error as error:
            raise translate(error, self._path) from error


_COMMON_PRAGMAS = ("foreign_keys = ON", "cell_size_check = ON")
# One connection of a process writes and checkpoints: two at once meet the WAL-reset race of
# every SQLite before 3.51.3.
_READER_PRAGMAS = (*_COMMON_PRAGMAS, "wal_autocheckpoint = 0", "query_only = ON")


def writer_pragmas(settings: Settings, *, memory: bool) -> tuple[str, ...]:
    """What is set on the connection that writes."""
    if memory:
        return _COMMON_PRAGMAS
    return (
        *_COMMON_PRAGMAS,
        "journal_mode = WAL",
        f"synchronous = {settings.synchronous.upper()}",
        # 32 MB. A checkpoint writes a page once, however often it changed: fewer of them made
        # updates of 20,000 jobs a third faster. Larger gained nothing more.
        "wal_autocheckpoint = 8000",
        # A table with triggers makes every statement keep what it overwrites; in a temporary file
        # that doubled the cost of an insert.
        "temp_store = MEMORY",
    )


def _arrivals(calls: Sequence[Call]) -> set[int] | None:
    """The stages that jobs came to; None where a call that makes events does not say."""
    stages: set[int] = set()
    for query, alike in runs(calls):
        if query.makes_events:
            came = query.arrivals(alike)
            if came is None:
                return None
            stages |= came
    return stages


def _set_up(connection: sqlite3.Connection, pragmas: Sequence[str], patience: float) -> None:
    deadline = time.monotonic() + patience
    for pragma in pragmas:
        answer = _say(connection, pragma, deadline)
        if pragma == "journal_mode = WAL" and answer != "wal":
            raise ConnectionFailed(
                f"the file system does not take SQLite's WAL mode (it answered {answer})",
                target=connection.execute("PRAGMA database_list").fetchone()[2],
            )


def _say(connection: sqlite3.Connection, pragma: str, deadline: float) -> object:
    while True:
        try:
            row = connection.execute(f"PRAGMA {pragma}").fetchone()
        except sqlite3.OperationalError as error:
            # Switching to WAL meets SQLITE_BUSY at once, whatever the busy time-out is.
            busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
            if not busy or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return row and row[0]


async def _close(lanes: Sequence[Lane]) -> None:
    for lane in reversed(lanes):
        await lane.hop.close()


def _modes(connection: sqlite3.Connection) -> tuple[str, int]:
    (journal,) = connection.execute("PRAGMA journal_mode").fetchone()
    (synchronous,) = connection.execute("PRAGMA synchronous").fetchone()
    return journal, synchronous
