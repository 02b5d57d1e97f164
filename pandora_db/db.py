"""`JobDb`: the store with a door."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from pandora_db import migrations
from pandora_db.codecs.checks import check_id
from pandora_db.config import Settings
from pandora_db.drivers.base import Driver, Unit
from pandora_db.drivers.tasks import finish
from pandora_db.dsn import PostgresTarget, Target, parse_dsn
from pandora_db.errors import InvalidInput, PandoraDbError
from pandora_db.models.health import Health
from pandora_db.models.schema import SchemaDifference, SchemaPlan
from pandora_db.services.heartbeat import Heartbeat
from pandora_db.services.lookout import Lookout
from pandora_db.services.opening import USE, Opening
from pandora_db.services.sweeper import Sweeper
from pandora_db.services.watch import Watch
from pandora_db.sqlfiles import Dialect
from pandora_db.store.jobs import Store
from pandora_db.store.leases import Leases
from pandora_db.store.pending_leases import OwnPendingLeases, PendingLeases

if TYPE_CHECKING:
    import aiosqlite
    import asyncpg


log = logging.getLogger("pandora_db")


class JobDb(Store):
    """A handle on one database: every method of `Store`, and the door (seed: libpndb).

    One handle serves all tasks of a process; make it with `open` or `connect`, not by the class.
    """

    def __init__(self, driver: Driver, target: Target, settings: Settings) -> None:
        leases = Leases(settings, _origin(target, settings))
        super().__init__(driver, leases)
        self._driver = driver
        self._target = target
        self.settings = settings
        self._heartbeat = Heartbeat(driver.pulse, leases, settings)
        leases.on_adopt = self._heartbeat.start
        leases.on_late = self._heartbeat.hurry
        self._lookout = Lookout(driver)
        self._sweeper: Sweeper | None = None
        if settings.sweep is not None:
            self._sweeper = Sweeper(self, settings.sweep)
            self._sweeper.start()

    if not TYPE_CHECKING:

        def __new__(cls, *args: object, **_: object) -> Self:
            """Refuse a URL where `open` and `connect` take one."""
            if not args or isinstance(args[0], str | os.PathLike):
                raise TypeError(f"a JobDb is not made by its class: {USE}")
            return super().__new__(cls)

    @classmethod
    def open(
        cls,
        url: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
        **overrides: Any,  # noqa: ANN401 - checked by Settings, which names each
    ) -> Opening[Self]:
        """Connect for the length of an `async with` block; see `connect`."""
        return Opening(lambda: cls.connect(url, settings=settings, **overrides))

    @classmethod
    async def connect(
        cls,
        url: str | os.PathLike[str] | None = None,
        *,
        settings: Settings | None = None,
        **overrides: Any,  # noqa: ANN401 - checked by Settings, which names each
    ) -> Self:
        """Connect, for programs that close the handle themselves, such as a bot's `setup_hook`.

        Args:
            url: a path, `sqlite:///…`, `:memory:`, `postgresql://…` or a libpq keyword string; None
                takes `PANDORA_DB_URL`. A SQLite file is made when missing, its folder with
                `make_folders`.
            settings: pool sizes and time-outs; None takes the defaults.
            **overrides: single fields of `Settings`, which go before those of `settings`.

        Raises:
            InvalidInput: a URL or setting that is not understood; nothing was connected.
            ConnectionFailed: no server, a refused login, no such database, no such folder.
            StorageDamaged: the file is empty, cut short or no SQLite database; it was left so.
            ForeignSchema: the file is another application's.
            SchemaTooNew: a newer pandora_db has upgraded the database.
        """
        if settings is not None and not isinstance(settings, Settings):  # pyright: ignore[reportUnnecessaryIsInstance]
            kind = type(settings).__name__
            raise InvalidInput(f"settings takes a Settings, not {kind}", field="settings")
        chosen = (settings or Settings()).model_copy(update=overrides)
        target = parse_dsn(url)
        driver = _driver(target, chosen)
        with _refusals_logged(target):
            await driver.open()
            try:
                await migrations.refuse_newer(driver)
            except BaseException:
                await finish(driver.close())
                raise
        return cls(driver, target, chosen)

    async def __aenter__(self) -> Self:
        """For `async with await JobDb.connect(…)`; the end of the block closes it."""
        self._driver.guard.check("async with")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let running calls end within `close_timeout`, then disconnect; may be called again.

        Claims that have not ended are left to recovery: release them first.
        """
        await finish(self._close())

    async def _close(self) -> None:
        if self._driver.guard.elsewhere:  # thread and tasks belong to the parent, as all else
            return
        try:
            async with asyncio.timeout(self.settings.close_timeout):
                await self._lookout.close()
                if self._sweeper is not None:
                    await self._sweeper.stop()
                await self._leases.settle()
                await self._heartbeat.stop()
        except TimeoutError:
            log.warning("close: claims that were to be given back are left to run out")
        finally:
            self._leases.close()
            await self._driver.close()

    @property
    def dialect(self) -> Dialect:
        """`"sqlite"` or `"postgres"`."""
        return self._driver.dialect

    async def init_schema(self) -> None:
        """Make the tables, upgrade older ones, or adopt libpndb's table (seed: libpndb).

        May be called any number of times, by any number of processes at once. On a current schema
        it only reads. SQLite: before an upgrade a backup is written beside the file.

        Raises:
            ForeignSchema: a table of our names is somebody else's; it was left untouched.
            SchemaTooNew: a newer pandora_db has upgraded the database.
            SchemaChanged: an applied migration is not the one that is shipped.
            LockTimeout: a table stayed locked longer than `lock_timeout`.
        """
        with _refusals_logged(self._target):
            await migrations.migrate(self._driver)

    async def plan_schema(self) -> SchemaPlan:
        """What `init_schema` would do, and how long it would lock; `print` it. Changes nothing.

        Raises:
            ForeignSchema, SchemaTooNew, SchemaChanged: as `init_schema` would.
        """
        return await migrations.plan(self._driver)

    async def verify_schema(self) -> list[SchemaDifference]:
        """Each index, column, check, trigger and stage that is missing or changed."""
        return await migrations.verify(self._driver)

    async def health(self, *, deep: bool = False) -> Health:
        """Versions, durability, sizes, pool use, and warnings for people.

        Args:
            deep: SQLite: also read the whole file and check it, which takes as long as reading it.
        """
        health = await self._driver.health(deep=deep)
        found = await migrations.found_version(self._driver)
        known = migrations.known_version(self.dialect)
        return health.model_copy(
            update={"schema_version": found or None, "known_schema_version": known}
        )

    async def ping(self) -> float:
        """Seconds of one round trip to the engine."""
        start = time.perf_counter()
        await self._driver.ping()
        return time.perf_counter() - start

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Store, None]:
        """All or nothing: `async with db.transaction() as tx`, then every call on `tx`.

        A call on the handle itself inside the block raises `InsideTransaction`, in child tasks too.
        SQLite has one writer: other writers of all processes wait until the block ends. So keep
        it short, and await nothing in it but `tx`.

        Raises:
            TransactionAborted: PostgreSQL gave it up (deadlock); run it again.
            OutcomeUnknown: the connection was lost at the commit, and did not come back in time.
        """
        leases = OwnPendingLeases(self._leases)
        unit: Unit | None = None
        try:
            async with self._driver.unit() as unit:
                yield Store(unit, leases)
        finally:  # a cancellation that came with the commit undoes nothing
            leases.over(unit is not None and unit.committed)

    def bind(self, connection: asyncpg.Connection[Any] | aiosqlite.Connection) -> Store:
        """The store inside a transaction that the caller opened, on a connection of the caller's.

        A job then exists exactly if the caller's own rows do; whether it is durable is decided by
        the caller's commit. So are claims: `renew_claims` takes them over after it.

        Raises:
            InvalidInput: the connection is of the other dialect, closed, or in no transaction.
        """
        return Store(self._driver.bind(connection), PendingLeases(self._leases))

    def watch(
        self, *, job_id: int | None = None, guild_id: int | None = None, after: str | None = None
    ) -> Watch:
        """The events of one job, of one guild or of all: `async for event in db.watch(): …`.

        Of each job every event comes, in order, also when a connection is lost or the reader is
        slow; events of several jobs come about in the order of their times. The events of a job
        that was deleted are gone; EventKind.DELETED tells it, and ends the watch of one job.

        Args:
            job_id: only this job's; it need not be there yet.
            guild_id: only those of jobs that are now this guild's.
            after: the `cursor` of an earlier watch, to go on where that one stopped. None begins
                now: at the entry of `async with`, or with the first event that is asked for.

        Raises:
            InvalidInput: both ids, an id outside 0 … 2^63-1, or no cursor; that it is of another
                database shows when the watch begins.
            InsideTransaction: watch what is committed from outside the transaction.
        """
        self._driver.guard.check("watch")
        if job_id is not None and guild_id is not None:
            raise InvalidInput("job_id and guild_id are both given; expected one", field="guild_id")
        return Watch(
            self._lookout,
            job_id=None if job_id is None else check_id(job_id),
            guild_id=None if guild_id is None else check_id(guild_id, "guild_id"),
            after=after,
        )

    def __repr__(self) -> str:
        return f"<JobDb {self.dialect} {self._target.describe()}>"


class Internals(NamedTuple):
    """What the runtime and the testing tools use of a handle beside its contract."""

    driver: Driver
    leases: Leases
    lookout: Lookout


def internals(db: JobDb) -> Internals:
    """For `pandora_db.runtime` and `pandora_db.testing`; users of the handle have `watch`."""
    return Internals(db._driver, db._leases, db._lookout)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


@contextmanager
def _refusals_logged(target: Target) -> Generator[None, None, None]:
    try:
        yield
    except PandoraDbError as error:
        log.info("refused to start on %s: %s", target.describe(), error)
        raise


def _origin(target: Target, settings: Settings) -> str:
    """Which database a claim is of; in memory, each handle has one of its own."""
    where = target.describe()
    if isinstance(target, PostgresTarget):
        return f"{where}, schema {settings.schema}"
    if target.path is None:
        return f"{where} {secrets.token_hex(4)}"
    return f"sqlite:///{Path(target.path).resolve()}"


def _driver(target: Target, settings: Settings) -> Driver:
    # A driver is imported when it is used: the other one costs start-up time and memory.
    if isinstance(target, PostgresTarget):
        from pandora_db.drivers.postgres import PostgresDriver  # noqa: PLC0415

        return PostgresDriver(target, settings)
    from pandora_db.drivers.sqlite import SqliteDriver  # noqa: PLC0415

    return SqliteDriver(target, settings)
