"""The seam between the stores and the engines.

A store runs named queries on a `Session`, and does not know whether that is the whole database, one
transaction of it, or a connection that the caller opened. A `Driver` is the session of the whole
database, with a door.
"""

from __future__ import annotations

import asyncio
import os
from asyncio import get_running_loop
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Generator,
    Hashable,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pandora_db.errors import HandleClosed, HandleForked, InsideTransaction, PandoraDbError

if TYPE_CHECKING:
    from pandora_db.models.health import Health
    from pandora_db.sqlfiles import Catalogue, Dialect

T = TypeVar("T")
Row = Sequence[Any]
Args = Mapping[str, Any]
Written = Row | PandoraDbError | None
"""What became of one write among many: its row, None when it changed nothing, or its error."""
OnNews = Callable[[Collection[int] | None], None]
"""Told of a commit: jobs came to these stages, and no more; None where that is not known."""
NO_FLAGS: frozenset[str] = frozenset()
REPEATED = frozenset({"repeated"})
MIGRATION_PATIENCE = 600.0
"""Seconds to wait for another process that is changing the schema."""

_process = os.getpid()


def _note_process() -> None:
    global _process  # noqa: PLW0603 - there is one
    _process = os.getpid()


# To ask for the number in the path of every call would cost it a system call.
os.register_at_fork(after_in_child=_note_process)


class Session(Protocol):
    """Where a store runs its queries."""

    async def read(self, name: str, args: Args, when: frozenset[str] = NO_FLAGS) -> Sequence[Row]:
        """Run the query once and return its rows."""
        ...

    async def find_outcome(self, name: str, args: Args) -> Sequence[Row]:
        """Read what became of a write that answered None; `args` hold its `operation_id`.

        Such a write may have been done, on a connection that was lost. So outside a transaction
        the read is repeated as long as a lost answer is looked for.
        """
        ...

    def write(
        self, name: str, args: Args, key: Hashable, *, repeated: bool = False
    ) -> Awaitable[Row | None]:
        """Run one operation of a `:batch` query; None when it changed nothing.

        To be awaited at once: what it gives may hold a connection already. Operations of one `key`
        never share a statement. Outside a transaction the call returns after the commit. `repeated`
        says that the operation may have been done before, and takes the variant of the query that
        then does nothing; a driver that lost an answer does so too.
        """
        ...

    async def write_each(self, name: str, args: Sequence[Args], key: str) -> list[Written]:
        """Run many operations of a `:batch` query side by side, each with an outcome of its own.

        `key` names the argument that is the key of each. Raises only what refuses them all.
        """
        ...

    async def take(
        self, name: str, args: Args, when: frozenset[str] = NO_FLAGS, *, found_by: str | None = None
    ) -> Sequence[Row]:
        """Run one query that changes many rows and answers with them, after its commit.

        A driver that lost the answer asks `found_by` for it, and runs the query once more when
        that finds nothing.
        """
        ...

    def unit(self) -> AbstractAsyncContextManager[Unit]:
        """A transaction; inside a transaction, a savepoint."""
        ...


class Unit(Session, Protocol):
    """A session inside one transaction, where much can be done at once."""

    @property
    def committed(self) -> bool | None:
        """Whether what was done is there to stay; None when nobody knows, at a lost connection.

        A cancellation may come after the commit, and an error too.
        """
        ...

    async def write_all(
        self, name: str, args: Sequence[Args], *, repeated: bool = False
    ) -> list[Row | None]:
        """Run many operations of a `:batch` query in one go, none of them on the same job."""
        ...

    async def load(self, table: str, columns: Sequence[str], rows: Iterable[Row]) -> int:
        """Bring many rows in at the engine's full speed, each made when the engine takes it.

        Returns how many were stored: a trigger of another program may keep some away.
        """
        ...


class Driver(Session, Protocol):
    """A session on the whole database, and the door to it."""

    dialect: Dialect
    queries: Catalogue
    guard: Guard

    async def open(self) -> None:
        """Connect, or raise what stands in the way."""
        ...

    async def close(self) -> None:
        """Let running calls end, then disconnect; may be called again."""
        ...

    async def ping(self) -> None:
        """One round trip to the engine."""
        ...

    async def health(self, *, deep: bool) -> Health:
        """The engine's own facts."""
        ...

    def migrating(self) -> AbstractAsyncContextManager[Migrator]:
        """A transaction that holds the lock under which schemas are changed."""
        ...

    def bind(self, connection: object) -> Session:
        """A session inside the caller's own open transaction."""
        ...

    def pulse(self) -> Pulse:
        """A way to the database that needs neither the event loop nor a turn in its queues."""
        ...

    def bell(self, on_news: OnNews) -> Bell:
        """What tells `on_news` of this handle's commits, and when to look for those of others."""
        ...


class Bell(Protocol):
    """When it is worth looking for new events."""

    def looked(self, *, news: bool) -> None:
        """Somebody has looked, and found something or not; it rings when that is worth doing again.

        It rings before, too, when it knows of something.
        """
        ...

    async def close(self) -> None:
        """Ring no more."""
        ...


class Pulse(Protocol):
    """What the heartbeat's own thread runs its queries on; every call blocks that thread."""

    def run(self, name: str, args: Args, seconds: float) -> Sequence[Row]:
        """Run a query once, within that time; raises `PandoraDbError` when it cannot be."""
        ...

    def close(self) -> None:
        """Let go of whatever it opened; the next query opens it anew."""
        ...


class Migrator(Unit, Protocol):
    """A transaction that may change the schema, alone among all processes."""

    async def run(self, statement: str) -> None:
        """Run one statement of a migration."""
        ...

    async def backup(self, version: int) -> str | None:
        """Write a copy beside the database where the engine can; returns its path."""
        ...


async def write_in_turn(
    session: Session, name: str, args: Sequence[Args], key: str
) -> list[Written]:
    """`Session.write_each` inside a transaction, which does one thing after the other.

    An error is raised: it may have spoilt the whole transaction, which must not be committed then.
    """
    return [await session.write(name, one, one[key]) for one in args]


async def outcomes_of(calls: Sequence[asyncio.Future[T]]) -> list[T | PandoraDbError]:
    """Await calls that are queued already; whoever is cancelled meanwhile withdraws them."""
    outcomes: list[T | PandoraDbError] = []
    try:
        for call in calls:
            try:
                outcomes.append(await call)
            except PandoraDbError as error:
                outcomes.append(error)
    finally:
        for call in calls[len(outcomes) :]:
            if not call.cancel() and not call.cancelled():
                call.exception()  # it is seen: nobody else will ask
    return outcomes


class Guard:
    """Refuses calls on a handle that is closed, forked, or inside its own open transaction."""

    __slots__ = ("_inside", "_loop", "_process", "state")

    def __init__(self) -> None:
        self._process = _process
        self._loop = get_running_loop()
        self._inside: ContextVar[Inside | None] = ContextVar("pandora_db_inside", default=None)
        self.state = "not open"

    @property
    def forked(self) -> bool:
        """Whether this is a child process, which must not even close the parent's connections."""
        return self._process != _process

    @property
    def elsewhere(self) -> bool:
        """Whether this is no place to close the connections: a child process, another loop."""
        return self.forked or self._loop is not get_running_loop()

    def check(self, name: str) -> None:
        """Raise `HandleForked`, `HandleClosed` or `InsideTransaction`, or return."""
        if self._process != _process:  # `forked`, in the path of every call
            raise HandleForked
        if self.state != "open":
            raise HandleClosed(
                f"{name} was called on a handle that is {self.state}: "
                "use it inside `async with JobDb.open(…)`, or after connect() and before close()"
            )
        if self._loop is not get_running_loop():
            raise HandleClosed(
                f"{name} was called in another event loop or thread than the handle was opened in: "
                "open a JobDb there"
            )
        inside = self._inside.get()
        if inside is not None and inside.open:
            raise InsideTransaction(name)

    @contextmanager
    def inside(self) -> Generator[None, None, None]:
        """Mark this task, and the tasks that it starts, as being inside a transaction."""
        mark = Inside()
        token = self._inside.set(mark)
        try:
            yield
        finally:
            mark.open = False
            with suppress(ValueError):  # left in another task than entered: the mark is enough
                self._inside.reset(token)


class Inside:
    """A transaction of the handle; a child task may outlive it."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open = True
