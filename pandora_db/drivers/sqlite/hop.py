"""Running a whole function in a connection's thread: here alone we lean on aiosqlite's inside.

aiosqlite offers an await per statement; a write of four of them costs four thread hops, and a task
cancelled between two leaves a transaction that nobody owns. Its queue takes any function.
"""

from __future__ import annotations

import asyncio
import sqlite3
from _thread import LockType, allocate_lock
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

from pandora_db.drivers.tasks import finish, settle
from pandora_db.errors import HandleClosed

if TYPE_CHECKING:
    import aiosqlite

T = TypeVar("T")
Begun = Callable[[], None]
"""What `work` calls once it needs the interpreter no more for a while; see `Hop.post`."""
_PATIENCE = 0.002
"""Seconds that the loop waits for the thread at most; that may have something else to do first."""


class _Landing:
    """What aiosqlite's thread takes for a future: a turn of the loop cheaper than a real one."""

    __slots__ = ("_land", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, land: Callable[[Any], None]) -> None:
        self._loop = loop
        self._land = land

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def done(self) -> bool:
        return False

    def set_result(self, result: object) -> None:
        self._land(result)

    def set_exception(self, error: BaseException) -> None:
        self._land(error)


class _LandingHere:
    """The same without a loop: the answer is given in the thread that made it."""

    __slots__ = ("set_result",)

    def __init__(self, land: Callable[[Any], None]) -> None:
        self.set_result = land

    def get_loop(self) -> _LandingHere:
        return self

    def call_soon_threadsafe(self, call: Callable[..., object], *args: object) -> None:
        call(*args)

    def done(self) -> bool:
        return False

    def set_exception(self, error: BaseException) -> None:
        self.set_result(error)


def _release(baton: LockType) -> None:
    if baton.locked():
        baton.release()


class Hop:
    """A SQLite connection in its own thread."""

    __slots__ = ("_closed", "_connection", "_loop", "_queue", "_raw")

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._closed = False
        self._connection = connection
        self._raw: sqlite3.Connection = connection._conn  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
        self._queue: SimpleQueue[Any] = connection._tx  # noqa: SLF001  # pyright: ignore[reportPrivateUsage, reportUnknownMemberType]
        self._loop = asyncio.get_running_loop()

    @classmethod
    async def open(cls, path: str, *, uri: bool, timeout: float) -> Hop:
        """Connect; `timeout` is how long SQLite waits for a lock, in seconds."""
        import aiosqlite  # noqa: PLC0415

        connection = aiosqlite.connect(
            path,
            uri=uri,
            timeout=timeout,
            isolation_level=None,
            cached_statements=256,
            check_same_thread=False,
        )
        # A forgotten close() must not keep the process alive.
        connection._thread.daemon = True  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

        async def start() -> Hop:
            await connection
            return cls(connection)

        opening = asyncio.ensure_future(start())
        try:
            return await settle(opening)
        except asyncio.CancelledError:
            if not opening.cancelled() and opening.exception() is None:
                await opening.result().close()
            raise

    def submit(
        self, work: Callable[[sqlite3.Connection], T], limit: float | None = None
    ) -> asyncio.Future[T]:
        """Queue `work` for the thread. Cancelling the future does not stop it: see `settle`.

        After `limit` seconds the statement that then runs is interrupted.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        if self._ended:
            future.set_exception(HandleClosed("the connection was closed"))
            return future
        if limit is not None:
            alarm = self._loop.call_later(limit, self.interrupt)
            future.add_done_callback(lambda _: alarm.cancel())
        self._queue.put_nowait((future, partial(work, self._raw)))
        return future

    def post(
        self,
        work: Callable[[sqlite3.Connection, Begun], T],
        land: Callable[[T | BaseException], None],
        *,
        hand_over: bool = False,
    ) -> None:
        """Queue `work`; `land` is called in the loop with what it returned or raised.

        With `hand_over` the loop lets the thread go first, until `work` says that it has begun with
        what needs no interpreter. A thread that wants the interpreter waits until the loop sleeps,
        or for 5 ms (`sys.getswitchinterval`): one would work after the other, and not beside it.
        """
        if self._ended:
            land(HandleClosed("the connection was closed"))
            return
        baton = allocate_lock()
        baton.acquire()
        task = partial(work, self._raw, partial(_release, baton))
        self._queue.put_nowait((_Landing(self._loop, land), task))
        if hand_over:
            baton.acquire(timeout=_PATIENCE)

    def post_from_thread(
        self, work: Callable[[sqlite3.Connection], T], land: Callable[[T | BaseException], None]
    ) -> None:
        """Queue `work` from any thread; `land` is called in the connection's own."""
        if self._ended:
            land(HandleClosed("the connection was closed"))
        else:
            self._queue.put_nowait((_LandingHere(land), partial(work, self._raw)))

    @property
    def changes(self) -> int:
        """How many rows it has changed; to be asked while nothing runs."""
        return self._raw.total_changes

    @property
    def _ended(self) -> bool:
        # The thread is gone, or ends before it would come to what is queued now.
        return self._closed or not self._connection._running  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]

    def interrupt(self) -> None:
        """Stop the statement that is running, from any thread."""
        self._raw.interrupt()

    async def close(self) -> None:
        """Close after what is queued; the thread ends."""
        self._closed = True
        await finish(self._connection.close())
