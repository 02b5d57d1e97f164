"""The PostgreSQL driver: a pool, a lane for every grouped query, and the door to both."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, cast
from uuid import UUID

import asyncpg

from pandora_db.config import Settings
from pandora_db.drivers.base import (
    NO_FLAGS,
    Args,
    Guard,
    OnNews,
    Row,
    Session,
    Unit,
    Written,
    outcomes_of,
)
from pandora_db.drivers.postgres.bell import PostgresBell
from pandora_db.drivers.postgres.commits import Commits
from pandora_db.drivers.postgres.errors import LOST, is_passing, translate
from pandora_db.drivers.postgres.health import read_health
from pandora_db.drivers.postgres.lane import Lane
from pandora_db.drivers.postgres.listener import Listener
from pandora_db.drivers.postgres.migrator import PostgresMigrator
from pandora_db.drivers.postgres.notifier import Notifier, channel
from pandora_db.drivers.postgres.pool import Pool
from pandora_db.drivers.postgres.pulse import PostgresPulse
from pandora_db.drivers.postgres.transaction import PostgresTransaction, bound
from pandora_db.drivers.tasks import finish
from pandora_db.dsn import PostgresTarget
from pandora_db.errors import (
    ConnectionFailed,
    OutcomeUnknown,
    PandoraDbError,
    PoolTimeout,
    StatementTimeout,
)
from pandora_db.models.health import Health
from pandora_db.sqlfiles import Catalogue, Dialect, Query

log = logging.getLogger("pandora_db")


class PostgresDriver:
    """One database on one or several hosts."""

    dialect: Dialect = "postgres"

    def __init__(self, target: PostgresTarget, settings: Settings) -> None:
        self.queries = Catalogue("postgres", f'"{settings.schema}"')
        self.guard = Guard()
        self._settings = settings
        self._address = target
        self._target = target.describe()
        self._lanes: dict[str, Lane] = {}
        self._begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
        if settings.pgbouncer:  # which passes no start-up settings on; in the same round trip
            self._begin += (
                f"; SET LOCAL statement_timeout = {_milliseconds(settings.statement_timeout)}"
                f"; SET LOCAL lock_timeout = {_milliseconds(settings.lock_timeout)}"
                f"; SET LOCAL idle_in_transaction_session_timeout = {_milliseconds(settings.lease)}"
            )
        self._notifier: Notifier | None = None

    async def open(self) -> None:
        """Connect, waiting up to `wait_for_server` for a server that is still starting.

        Raises:
            ConnectionFailed: no server, a wrong password, no such database.
        """
        settings = self._settings
        self._pool = Pool(self._connect, self.queries, settings, self._target)
        self._commits = Commits(self._pool, self.queries, settings)
        if settings.notify:
            self._notifier = Notifier(self._pool, self.queries, settings.schema)
            self._pool.notifier = self._notifier
        deadline = time.monotonic() + self._settings.wait_for_server
        try:
            while not await self._reached(deadline):
                log.info("waiting for a server at %s", self._target)
                await asyncio.sleep(0.2)
        except BaseException:
            await finish(self._pool.close())
            raise
        self.guard.state = "open"
        log.info("opened %s (sslmode %s)", self._target, self._address.sslmode or "prefer")

    async def _reached(self, deadline: float) -> bool:
        try:
            await self._pool.fill()
        except ConnectionFailed as error:
            if not isinstance(error.__cause__, LOST) or time.monotonic() > deadline:
                raise
            return False
        return True

    async def _connect(self) -> asyncpg.Connection[asyncpg.Record]:
        settings = self._settings
        options: dict[str, Any] = {
            "timeout": self._address.connect_timeout or settings.connect_timeout,
            # The server ends a statement first, with a known outcome; this ends a silent line.
            "command_timeout": settings.statement_timeout + 1.0,
        }
        if settings.pgbouncer:
            options["statement_cache_size"] = 0
        else:
            options["statement_cache_size"] = 1000
            options["max_cached_statement_lifetime"] = 0
            options["max_cacheable_statement_size"] = 0
            options["server_settings"] = {
                "application_name": self._address.application_name or settings.application_name,
                "TimeZone": "UTC",
                "default_transaction_isolation": "read committed",
                "statement_timeout": _milliseconds(settings.statement_timeout),
                "lock_timeout": _milliseconds(settings.lock_timeout),
                # Recovery passes over a row that is locked: whoever stands still in a transaction,
                # such as a process that was paused, must not keep a job for longer than a lease.
                "idle_in_transaction_session_timeout": _milliseconds(settings.lease),
                # A plan made while the table was small must not keep its sequential scan. A table
                # that was never analysed looks full of live rows: parallel workers and a sort,
                # 9 ms for 120 rows, where the index has them in order.
                "enable_seqscan": "off",
                "enable_bitmapscan": "off",
                "max_parallel_workers_per_gather": "0",
                "jit": "off",
                # For one job a plan of its own always seems cheaper than the general one, of which
                # the planner expects ten rows: each call would be planned anew, which takes three
                # times as long as running it.
                "plan_cache_mode": "force_generic_plan",
            }
        try:
            connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(
                **self._address.connect_arguments(), **options
            )
            if settings.pgbouncer:
                await self._look_up_types(connection)
        except (
            asyncpg.PostgresError,
            asyncpg.InterfaceError,
            OSError,
            TimeoutError,
            ValueError,
        ) as error:
            raise ConnectionFailed(_why(error), target=self._target) from error
        return connection

    async def _look_up_types(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        """Have asyncpg look up all that the statements need, in one transaction."""
        try:
            async with connection.transaction():
                await connection.fetchrow(self.queries.get("array_types").text)
        except BaseException:
            connection.terminate()
            raise

    async def close(self) -> None:
        """Let running calls end within `close_timeout`, then disconnect; may be called again."""
        if self.guard.state != "open" or self.guard.elsewhere:
            return
        self.guard.state = "closed"
        deadline = asyncio.get_running_loop().time() + self._settings.close_timeout
        try:
            async with asyncio.timeout_at(deadline):
                for lane in self._lanes.values():
                    await lane.drain()
                if self._notifier is not None:
                    await self._notifier.close()
        except BaseException as error:
            for lane in self._lanes.values():
                lane.abandon()
            if not isinstance(error, TimeoutError):
                raise
        finally:
            await finish(self._pool.close(deadline))

    async def read(self, name: str, args: Args, when: frozenset[str] = NO_FLAGS) -> Sequence[Row]:
        """See `Session.read`; a connection that died in the pool is replaced once."""
        self.guard.check(name)
        query = self.queries.get(name, when)
        values = query.statements[0].bind(args)
        for last in (False, True):
            connection = self._pool.try_take() or await self._pool.take()
            try:
                rows = await connection.fetch(query.text, *values)
            except (*LOST, asyncpg.PostgresError) as error:
                lost = isinstance(error, LOST)
                if lost:
                    self._pool.lose(connection)
                else:
                    self._pool.give(connection)
                if last or not (lost or isinstance(error, asyncpg.InvalidCachedStatementError)):
                    raise translate(error, self._target) from error
            except (ValueError, OverflowError) as error:  # asyncpg, of a time beyond Python's
                self._pool.discard(connection)
                raise PandoraDbError(f"a stored value cannot be read: {error}") from error
            except BaseException:  # cancelled: the statement may run on
                self._pool.discard(connection)
                raise
            else:
                self._pool.give(connection)
                return cast("list[Row]", rows)
        raise AssertionError("unreachable")

    async def find_outcome(self, name: str, args: Args) -> Sequence[Row]:
        """See `Session.find_outcome`.

        Raises:
            OutcomeUnknown: the server did not answer within `outcome_timeout`.
        """
        deadline = time.monotonic() + self._settings.outcome_timeout
        while True:
            try:
                return await self.read(name, args)
            except (ConnectionFailed, PoolTimeout, StatementTimeout) as error:
                if time.monotonic() > deadline:
                    raise OutcomeUnknown(UUID(args["operation_id"]), "the call") from error
            await asyncio.sleep(0.1)

    def write(
        self, name: str, args: Args, key: Hashable, *, repeated: bool = False
    ) -> Awaitable[Row | None]:
        """See `Session.write`."""
        self.guard.check(name)
        return self._lane(name).call(args, key, repeated=repeated)

    async def write_each(self, name: str, args: Sequence[Args], key: str) -> list[Written]:
        """See `Session.write_each`."""
        self.guard.check(name)
        return await outcomes_of(await self._lane(name).call_each(args, key))

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(self.queries, name, self._pool, self._settings)
        return lane

    async def take(
        self, name: str, args: Args, when: frozenset[str] = NO_FLAGS, *, found_by: str | None = None
    ) -> Sequence[Row]:
        """See `Session.take`.

        Raises:
            OutcomeUnknown: the answer was lost, and not found again within `outcome_timeout`.
        """
        self.guard.check(name)
        query = self.queries.get(name, when)
        lost: asyncpg.Connection[asyncpg.Record] | None = None
        deadline = time.monotonic() + self._settings.outcome_timeout
        while True:
            try:
                async with self._pool.connection() as connection:
                    if lost is not None:
                        found = await self._find_taken(lost, connection, found_by, args)
                        if found:
                            self._tell(query, args)
                            return found
                        lost = None
                    return await self._take_once(connection, query, args)
            except _Lost as error:
                lost, failure = error.connection, error.__cause__
            except (*LOST, ConnectionFailed, PoolTimeout) as error:
                if lost is None:
                    raise translate(error, self._target) from error
                failure = error
            except asyncpg.PostgresError as error:
                if not is_passing(error):
                    raise translate(error, self._target) from error
                failure = error
            if time.monotonic() > deadline:
                raise self._given_up(name, args, lost, failure) from failure
            await asyncio.sleep(random.uniform(0.01, 0.1))  # noqa: S311 - jitter

    def _given_up(
        self,
        name: str,
        args: Args,
        lost: asyncpg.Connection[asyncpg.Record] | None,
        failure: BaseException | None,
    ) -> PandoraDbError:
        if lost is None and failure is not None:  # nothing was done
            return translate(failure, self._target)
        operation = args.get("operation_id")
        return OutcomeUnknown(operation and UUID(operation), name)

    async def _find_taken(
        self,
        lost: asyncpg.Connection[asyncpg.Record],
        connection: asyncpg.Connection[asyncpg.Record],
        found_by: str | None,
        args: Args,
    ) -> Sequence[Row]:
        await self._pool.wait_for_end_of(lost, connection)
        if found_by is None:
            return ()
        query = self.queries.get(found_by)
        found = await connection.fetch(query.text, *query.statements[0].bind(args))
        return cast("list[Row]", found)

    async def _take_once(
        self, connection: asyncpg.Connection[asyncpg.Record], query: Query, args: Args
    ) -> Sequence[Row]:
        values = query.statements[0].bind(args)
        try:
            rows = cast("list[Row]", await connection.fetch(query.text, *values))
        except LOST as error:
            self._pool.lose(connection)
            raise _Lost(connection) from error
        if rows:
            self._tell(query, args)
        return rows

    def _tell(self, query: Query, args: Args) -> None:
        if query.makes_events:
            self._pool.committed(query.arrivals((args,)))

    def pulse(self) -> PostgresPulse:
        """See `Driver.pulse`."""
        return PostgresPulse(self._connect, self.queries, self._target)

    def bell(self, on_news: OnNews) -> PostgresBell:
        """See `Driver.bell`."""
        notifier = self._notifier
        if notifier is None or self._settings.pgbouncer:  # there LISTEN would be another client's
            return PostgresBell(self._pool, on_news, None)
        name, ping = channel(self._settings.schema), self.queries.get("ping").text
        listen = partial(Listener, self._connect, name, notifier.sender, ping, on_news)
        return PostgresBell(self._pool, on_news, listen)

    def unit(self) -> AbstractAsyncContextManager[Unit]:
        """A transaction at READ COMMITTED on a connection of its own."""
        self.guard.check("transaction")
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncGenerator[Unit, None]:
        for last in (False, True):
            async with self._pool.connection() as connection:
                transaction = PostgresTransaction(connection, self.queries, self._target)
                try:
                    await transaction.run(self._begin)
                except ConnectionFailed:  # it died in the pool
                    self._pool.discard(connection)
                    if last:
                        raise
                    continue
                try:
                    with self.guard.inside():
                        yield transaction
                    doubt = await finish(self._commits.commit(transaction))
                except BaseException:
                    if not transaction.committed:
                        await finish(transaction.roll_back())
                    raise
                finally:
                    transaction.over = True
                if doubt is not None:
                    self._pool.discard(connection)
                    try:
                        await self._commits.settle(doubt, connection)
                    except ConnectionFailed:
                        transaction.committed = False
                        raise
                transaction.committed = True
                return

    def bind(self, connection: object) -> Session:
        """See `Driver.bind`."""
        self.guard.check("bind")
        return bound(connection, self.queries, self._target)

    async def ping(self) -> None:
        """One round trip to the server."""
        await self.read("ping", {})

    async def health(self, *, deep: bool) -> Health:
        """See `Driver.health`; the deep check is the server's own affair (pg_amcheck)."""
        del deep
        ((*facts,),) = await self.read("server_facts", {})
        use = self._pool.use
        queued = sum(lane.waiting for lane in self._lanes.values())
        return read_health(facts, use.model_copy(update={"waiting": use.waiting + queued}))

    def migrating(self) -> AbstractAsyncContextManager[PostgresMigrator]:
        """See `Driver.migrating`: an advisory lock of the schema."""
        self.guard.check("init_schema")
        return self._migrating()

    @asynccontextmanager
    async def _migrating(self) -> AsyncGenerator[PostgresMigrator, None]:
        async with self._pool.connection() as connection:
            migrator = PostgresMigrator(connection, self.queries, self._target)
            await migrator.begin(self._settings.lock_timeout)
            try:
                yield migrator
            except BaseException:
                await finish(migrator.roll_back())
                raise
            await finish(migrator.run("COMMIT"))


class _Lost(Exception):
    """The connection went before the answer came."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        super().__init__()
        self.connection = connection


def _milliseconds(seconds: float) -> str:
    """As the server takes it: 0 would mean no limit, and it counts in 32 bits."""
    return str(min(max(round(seconds * 1000), 1), 2**31 - 1))


def _why(error: BaseException) -> str:
    match error:
        case asyncpg.InvalidPasswordError() | asyncpg.InvalidAuthorizationSpecificationError():
            return f"the server refused the login: {error}"
        case asyncpg.InvalidCatalogNameError():
            return f"{error}: create it first"
        case asyncpg.PostgresError():
            return f"the server refused the connection: {error}"
        case TimeoutError():
            return "no answer within connect_timeout; do host and port fit?"
        case _:
            return f"no connection: {error}; is the server running, and do host and port fit?"
