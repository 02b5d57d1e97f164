"""The pool: a stack of idle connections, taken without an await when one is there.

asyncpg's own pool resets every connection at its release, in a task of its own; that costs as much
as a small query. Our statements leave no state on a session, so there is nothing to reset.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import asyncpg

from pandora_db.config import Settings
from pandora_db.drivers.base import OnNews
from pandora_db.drivers.postgres.errors import LOST, translate
from pandora_db.errors import HandleClosed, PoolTimeout
from pandora_db.models.health import PoolUse
from pandora_db.sqlfiles import Catalogue

if TYPE_CHECKING:
    from pandora_db.drivers.postgres.notifier import Notifier

    Connection = asyncpg.Connection[asyncpg.Record]

log = logging.getLogger("pandora_db")

_PATIENCE = 1.0
"""Seconds that a connection under way is given when nobody needs it any more."""


class Pool:
    """From `pool_min` to `pool_max` connections, each replaced at the end of its life."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        queries: Catalogue,
        settings: Settings,
        target: str,
    ) -> None:
        self.target = target
        self.taken = 0  # how often a connection was, by anybody
        self.on_commit: OnNews | None = None
        self.notifier: Notifier | None = None
        self._connect = connect
        self._queries = queries
        self._settings = settings
        self._backends: WeakKeyDictionary[Connection, asyncpg.Record | None] = WeakKeyDictionary()
        self._loop = asyncio.get_running_loop()
        self._idle: deque[tuple[Connection, float]] = deque()  # the newest on the right
        self._born: dict[Connection, float] = {}
        self._waiters: deque[asyncio.Future[Connection]] = deque()
        self._openers: set[asyncio.Task[None]] = set()
        self._reaper: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[None] | None = None

    @property
    def use(self) -> PoolUse:
        """How busy it is now."""
        return PoolUse(
            size=len(self._born),
            idle=len(self._idle),
            max=self._settings.pool_max,
            waiting=sum(not waiter.done() for waiter in self._waiters),
        )

    @property
    def spare(self) -> bool:
        """Whether two more connections could be had without waiting for anybody."""
        out = len(self._born) - len(self._idle) + len(self._openers)
        return not self._waiters and self._settings.pool_max - out > 1

    async def fill(self) -> None:
        """Open the first `pool_min` connections."""
        while len(self._born) < self._settings.pool_min:
            self.give(await self._wait(self._loop.create_future()))

    def committed(self, stages: Collection[int] | None = None) -> None:
        """To be called after each commit that others may watch; where jobs came to, if known."""
        if self.on_commit is not None:
            self.on_commit(stages)
        if self.notifier is not None:
            self.notifier.tell(stages or ())

    def try_take(self) -> Connection | None:
        """An idle connection, if there is one and nobody waits for it."""
        while self._idle:
            connection, _ = self._idle.pop()
            if not connection.is_closed() and not self._outlived(connection):
                self.taken += 1
                return connection
            self.discard(connection)
        return None

    async def take(self) -> Connection:
        """A connection, waiting up to `acquire_timeout`.

        Raises:
            PoolTimeout: none became free.
            ConnectionFailed: a new one was to be opened, and could not be.
        """
        connection = self.try_take()
        if connection is not None:
            return connection
        if self._closing:
            raise HandleClosed("the handle was closed while the call waited for a connection")
        waiter: asyncio.Future[Connection] = self._loop.create_future()
        alarm = self._loop.call_later(self._settings.acquire_timeout, self._expire, waiter)
        try:
            connection = await self._wait(waiter)
        finally:
            alarm.cancel()
        self.taken += 1
        return connection

    async def _wait(self, waiter: asyncio.Future[Connection]) -> Connection:
        self._waiters.append(waiter)
        self._open_more()
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give(waiter.result())
            raise

    @asynccontextmanager
    async def connection(self, *, counted: bool = True) -> AsyncGenerator[Connection, None]:
        """A connection that goes back afterwards, or is thrown away when its state is not sure.

        `counted` says whether it counts in `taken`.
        """
        connection = await self.take()
        if not counted:
            self.taken -= 1
        try:
            yield connection
        except Exception as error:
            if isinstance(error, LOST):
                self.lose(connection)
            elif connection.is_closed() or connection.is_in_transaction():
                self.discard(connection)
            else:
                self.give(connection)
            raise
        except BaseException:  # cancelled: a request to stop the statement may be on its way
            self.discard(connection)
            raise
        self.give(connection)

    def give(self, connection: Connection) -> None:
        """Take a sound connection back: outside a transaction, with nothing running."""
        if connection.is_closed() or self._closing or self._outlived(connection):
            self.discard(connection)
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._idle.append((connection, self._loop.time()))
        if self._reaper is None:
            self._reaper = self._loop.call_later(self._settings.connection_idle, self._reap)

    def discard(self, connection: Connection) -> None:
        """Throw a connection away, whatever state it is in; its server process ends by itself."""
        self._born.pop(connection, None)
        if not connection.is_closed():
            connection.terminate()
        self._open_more()
        self._notice_end()

    def lose(self, connection: Connection) -> None:
        """Throw a lost connection away, and the idle ones: what took it may have taken them too."""
        log.warning("a connection to %s was lost", self.target)
        idle = [one for one, _ in self._idle]
        self._idle.clear()
        for one in (connection, *idle):
            self.discard(one)

    async def close(self, deadline: float | None = None) -> None:
        """Wait for connections in use until `deadline` (loop time), then cut the rest off."""
        if deadline is None:
            deadline = self._loop.time() + self._settings.close_timeout
        self._closing = self._loop.create_future()
        if self._reaper:
            self._reaper.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(HandleClosed("the handle was closed while the call waited"))
        idle = [connection for connection, _ in self._idle]
        self._idle.clear()
        await self._stop_opening()
        try:
            async with asyncio.timeout_at(deadline):
                for connection in idle:
                    await connection.close()
                    self._born.pop(connection, None)
                self._notice_end()
                await self._closing
        except TimeoutError:
            log.warning("close: calls on %s did not end in time; they are cut off", self.target)
        finally:
            for connection in list(self._born):
                self._born.pop(connection, None)
                connection.terminate()

    async def _stop_opening(self) -> None:
        # A connect that is cancelled half-way may leave an error that nobody retrieves: asyncpg's.
        if self._openers:
            _, late = await asyncio.wait(self._openers, timeout=_PATIENCE)
            for opener in late:
                opener.cancel()
            if late:
                await asyncio.wait(late)

    def _notice_end(self) -> None:
        if self._closing and not self._born and not self._closing.done():
            self._closing.set_result(None)

    def _outlived(self, connection: Connection) -> bool:
        return self._loop.time() - self._born[connection] > self._settings.connection_life

    def _open_more(self) -> None:
        """Start as many openers as callers wait for, within `pool_max`."""
        if self._closing:
            return
        wanted = sum(not waiter.done() for waiter in self._waiters) - len(self._openers)
        room = self._settings.pool_max - len(self._born) - len(self._openers)
        for _ in range(min(wanted, room)):
            opener = self._loop.create_task(self._open_one())
            self._openers.add(opener)
            opener.add_done_callback(self._opened)

    async def _open_one(self) -> None:
        waiting = list(self._waiters)
        try:
            connection = await self._open()
        except Exception as error:  # noqa: BLE001 - it is raised by those who wait
            # One attempt answers everyone who waited for it: each would have met the same wall.
            for waiter in waiting:
                if not waiter.done():
                    waiter.set_exception(error)
            self._waiters = deque(waiter for waiter in self._waiters if not waiter.done())
            return
        self._admit(connection)

    def _opened(self, opener: asyncio.Task[None]) -> None:
        self._openers.discard(opener)
        self._open_more()  # for who came while it was at it

    async def _open(self) -> Connection:
        connection = await self._connect()
        if not self._settings.pgbouncer:
            try:
                self._backends[connection] = await connection.fetchrow(
                    self._queries.get("backend").text
                )
            except (*LOST, asyncpg.PostgresError) as error:
                connection.terminate()
                raise translate(error, self.target) from error
            except BaseException:
                connection.terminate()
                raise
        return connection

    def _admit(self, connection: Connection) -> None:
        self._born[connection] = self._loop.time()
        self.give(connection)

    async def wait_for_end_of(self, lost: Connection, connection: Connection) -> None:
        """Wait until the server has finished what came over a connection that was lost.

        Only then can a repeated operation tell whether the first one was done. A server process
        that still waits for its client is ended: what is under way to it must not arrive later.
        """
        backend = self._backends.get(lost)
        if backend is None:
            return
        query = self._queries.get("end_backend")
        values = query.statements[0].bind(dict(backend))
        while await connection.fetchval(query.text, *values):  # noqa: ASYNC110 - not our process
            await asyncio.sleep(0.02)

    def _expire(self, waiter: asyncio.Future[Connection]) -> None:
        if not waiter.done():
            use = self.use
            waiter.set_exception(
                PoolTimeout(
                    f"no connection to {self.target} became free within acquire_timeout "
                    f"({self._settings.acquire_timeout:g} s): {use.size} of {use.max} are in use, "
                    f"{use.waiting} callers wait; raise pool_max or look for an open transaction"
                )
            )

    def _reap(self) -> None:
        self._reaper = None
        now = self._loop.time()
        while len(self._born) > self._settings.pool_min and self._idle:
            connection, since = self._idle[0]
            if now - since < self._settings.connection_idle and not self._outlived(connection):
                break
            self._idle.popleft()
            self.discard(connection)
        if self._idle:
            self._reaper = self._loop.call_later(self._settings.connection_idle, self._reap)
