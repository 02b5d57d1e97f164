"""Group commit on PostgreSQL (P9): the calls that arrive during a flush go out together.

A lane belongs to one query, whose parameters are arrays with an element per call; what all calls
share may be sent once (`Alike`). A lone caller runs its own statement in its own task and waits for
nobody. A crowd is flushed by tasks of the lane, which no caller's cancellation reaches, in up to
three statements side by side; beside one that is out, another starts once as many wait. Two calls
of one key are never under way at once, and rows are locked in the order of their keys.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Awaitable, Hashable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import asyncpg

from pandora_db.config import Settings
from pandora_db.drivers.base import REPEATED, Args, Row, Written
from pandora_db.drivers.postgres.alike import alike
from pandora_db.drivers.postgres.arrays import as_columns
from pandora_db.drivers.postgres.errors import LOST, is_passing, translate
from pandora_db.drivers.room import Room
from pandora_db.errors import HandleClosed, OutcomeUnknown, PandoraDbError, PoolTimeout
from pandora_db.sqlfiles import Catalogue

if TYPE_CHECKING:
    from pandora_db.drivers.postgres.pool import Connection, Pool

log = logging.getLogger("pandora_db")
# So many flights at once, each of so many calls at least. With two, 50 callers and 1,000 get 1.2 to
# 1.3 times as much done; a third pays for some hundreds. Measured on two cores that client and
# server share.
_FLIGHTS = 3
_WORTH_A_FLIGHT = 20
# A second flight goes beside a first once as many wait as that one has, and so many at least:
# smaller halves would not come together again.
_WORTH_A_SECOND = 50
# Where others keep the server busy too (claims beside the ends of claims, say), one large flight
# gets 1.1 times as much done as several small ones. They count as busy for so many flights.
_COMPANY = 8


class _Call:
    """One call. `repeated`: it may have been done before; `lost`: where its answer was lost."""

    __slots__ = ("args", "future", "key", "lost", "repeated")

    def __init__(
        self,
        args: Args,
        key: Hashable,
        future: asyncio.Future[Row | None],
        repeated: bool,  # noqa: FBT001 - by position, in the path of every call
        lost: Connection | None,
    ) -> None:
        self.args = args
        self.key = key
        self.future = future
        self.repeated = repeated
        self.lost = lost


class Lane:
    """The queue in front of one `:batch` query."""

    def __init__(self, queries: Catalogue, name: str, pool: Pool, settings: Settings) -> None:
        query = queries.get(name)
        self._text = query.text
        self._query = query
        self._bind = query.statements[0].bind
        again = queries.get(name, REPEATED & queries.flags(name))
        self._text_again = again.text
        self._bind_again = again.statements[0].bind
        self._alike = alike(queries, name)
        self._name = name
        self._pool = pool
        self._settings = settings
        self._target = pool.target
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Call] = deque()
        self._flights: set[asyncio.Task[None]] = set()
        self._keys: set[Hashable] = set()  # those under way: the next call of each waits
        self._alone = False  # a lone caller is out with its own statement
        self._back = asyncio.Event()
        self._crowd = False
        self._under_way = 0  # calls of its flights
        self._stuck = False  # all that wait have keys that are under way
        self._taken = 0  # connections, by this lane
        self._taken_by_others = 0
        self._company = 0
        self._room = Room(self._queue, settings.max_pending)

    @property
    def waiting(self) -> int:
        """Calls that are queued."""
        return len(self._queue)

    def call(self, args: Args, key: Hashable, *, repeated: bool) -> Awaitable[Row | None]:
        """Run one call with whatever else waits; gives its row after the commit."""
        if (
            not repeated
            and not self._queue
            and not self._flights
            and not self._alone
            and not self._crowd
        ):
            connection = self._pool.try_take()
            if connection is not None:
                self._taken += 1
                return self._solo(connection, args, key)
        # create_future() would be another frame in the path of every call.
        call = _Call(args, key, asyncio.Future(loop=self._loop), repeated, None)
        if self._room.is_free:
            return self._enter(call)
        return self._enter_in_time(call)

    async def call_each(
        self, args: Sequence[Args], key: str
    ) -> Sequence[asyncio.Future[Row | None]]:
        """Queue many calls, which go out together as far as they can."""
        if not self._room.is_free:
            await self._wait_for_room()
        calls = [
            _Call(one, one[key], self._loop.create_future(), repeated=False, lost=None)
            for one in args
        ]
        self._queue += calls
        self._start()
        return [call.future for call in calls]

    async def drain(self) -> None:
        """Wait until nothing is queued or under way."""
        while self._alone or self._flights:
            if self._flights:
                await asyncio.wait(self._flights)
            else:
                await self._back.wait()

    async def _solo(self, connection: Connection, args: Args, key: Hashable) -> Row | None:
        self._alone = True
        self._back.clear()
        try:
            rows = await self._fetch(connection, (args,), repeated=False)
        except (*LOST, asyncpg.PostgresError) as error:
            lost = connection if isinstance(error, LOST) else None
            if lost:
                self._pool.lose(connection)
            else:
                self._pool.give(connection)
                if not is_passing(error):
                    raise translate(error, self._target) from error
            # Whoever sorts this out must not be the caller's task, which may be cancelled.
            call = _Call(args, key, self._loop.create_future(), lost is not None, lost)
            self._queue.appendleft(call)  # before those that came while it was out
        except BaseException:  # cancelled: the server may be at it still
            self._pool.discard(connection)
            raise
        else:
            self._pool.give(connection)
            if rows and self._query.makes_events:
                self._pool.committed(self._query.arrivals((args,)))
            return rows[0][1:] if rows else None
        finally:
            self._alone = False
            self._back.set()
            if self._queue and not self._flights:
                self._take_off()
        return await call.future

    async def _enter_in_time(self, call: _Call) -> Row | None:
        await self._wait_for_room()
        return await self._enter(call)

    async def _wait_for_room(self) -> None:
        try:
            await self._room.wait(self._settings.acquire_timeout)
        except TimeoutError:
            raise PoolTimeout(
                f"{len(self._queue)} calls of {self._name} wait already (max_pending), and this "
                f"one found no room within acquire_timeout on {self._target}"
            ) from None

    def _enter(self, call: _Call) -> asyncio.Future[Row | None]:
        self._queue.append(call)
        self._start()
        return call.future

    def _start(self) -> None:
        if not self._alone and (not self._flights or self._is_worth_a_second()):
            self._take_off()

    def _is_worth_a_second(self) -> bool:
        """Whether as many wait as are under way: half are gathered while the others are written."""
        if len(self._flights) != 1 or not self._under_way or self._stuck:
            return False  # none, several, one that boards next, or one that has all their keys
        return len(self._queue) >= max(self._under_way, _WORTH_A_SECOND) and self._pool.spare

    def _take_off(self) -> None:
        flight = self._loop.create_task(self._fly())
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)  # one may be cancelled before it began

    async def _fly(self) -> None:
        batch: Sequence[_Call] = ()
        try:
            while self._queue:
                batch = self._board()
                if not batch and len(self._flights) > 1:
                    self._stuck = True
                    break  # what is left waits for the keys of another flight, which goes on
                self._crowd = len(batch) > 1
                self._under_way += len(batch)
                try:
                    outcomes = await self._flush(batch) if batch else ()
                finally:
                    self._under_way -= len(batch)
                    self._stuck = False
                    self._keys.difference_update(call.key for call in batch)
                for call, outcome in zip(batch, outcomes, strict=True):
                    if call.future.done():
                        continue
                    if isinstance(outcome, PandoraDbError):
                        call.future.set_exception(outcome)
                    else:
                        call.future.set_result(outcome)
                # One turn of the loop for the callers just woken: their next call joins in.
                await asyncio.sleep(0)
        except Exception as error:  # nothing that is known: the others fly on
            self._leave(batch, error)
            raise
        except BaseException:  # close() ran out of patience, or the loop ends
            self._leave((*batch, *self._queue), _closed())
            self._queue.clear()
            raise
        finally:
            if (task := asyncio.current_task()) is not None:
                self._flights.discard(task)
            if self._queue and not self._flights:
                self._take_off()

    def _board(self) -> list[_Call]:
        """The next calls in order of arrival, no two of one key, sorted by key for the locks."""
        batch: list[_Call] = []
        left: list[_Call] = []
        keys: set[Hashable] = set()
        room = self._share()
        while self._queue and len(batch) < room:
            call = self._queue.popleft()
            if call.future.done():
                continue  # withdrawn
            if call.key is None:
                batch.append(call)
            elif call.key in keys or call.key in self._keys:
                left.append(call)
            else:
                keys.add(call.key)
                batch.append(call)
        self._queue.extendleft(reversed(left))
        self._room.wake()
        if len(keys) == len(batch):
            batch.sort(key=attrgetter("key"))
        self._keys |= keys
        return batch

    def _share(self) -> int:
        """How many calls the next flight takes: its part of a crowd that is worth several.

        Starts the flight that takes the next part. The server then works on the one while the
        callers of the other get their answers.
        """
        waiting, most = len(self._queue), self._settings.max_batch
        flights = min(_FLIGHTS + 1 - len(self._flights), waiting // _WORTH_A_FLIGHT)
        if self._has_company() or flights <= 1 or not self._pool.spare:
            return most
        self._take_off()
        return min(most, -(-waiting // flights))

    def _has_company(self) -> bool:
        """Whether others have asked the server for anything during the last few flights."""
        by_others = self._pool.taken - self._taken
        self._company = _COMPANY if by_others != self._taken_by_others else self._company - 1
        self._taken_by_others = by_others
        return self._company > 0

    async def _flush(self, batch: Sequence[_Call]) -> Sequence[Written]:  # noqa: C901
        """Run the batch until its outcome is known, or nobody can know it in time."""
        deadline = self._loop.time() + self._settings.outcome_timeout
        pause = 0.01
        while True:
            lost = next((call.lost for call in batch if call.lost is not None), None)
            try:
                # The first attempt has the time-outs of its connection and statement.
                async with asyncio.timeout_at(None if lost is None else deadline):
                    return await self._attempt(batch, lost)
            except LOST as error:
                failure: Exception = error
                if lost is None:
                    deadline = self._loop.time() + self._settings.outcome_timeout
                log.info("%s: looking again for what became of it", self._name)
            except PandoraDbError as error:  # there is no connection to be had
                failure = error
                if lost is None:
                    return [_copy(error) for _ in batch]
                if isinstance(error, HandleClosed):
                    return [self._give_up(call, error) for call in batch]
            except asyncpg.PostgresError as error:
                failure = error
                if is_passing(error) and (len(batch) == 1 or not _is_doubled(error)):
                    log.info("%s: %s; once more", self._name, type(error).__name__)
                elif len(batch) > 1:
                    return await self._each_alone(batch, error)
                else:
                    return [self._give_up(batch[0], error)]
            if self._loop.time() + pause > deadline:
                return [self._give_up(call, failure) for call in batch]
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            pause = min(pause * 2, 1.0)

    async def _each_alone(
        self, batch: Sequence[_Call], error: asyncpg.PostgresError
    ) -> Sequence[Written]:
        """Find out whose the error is, for as long as one statement may take."""
        end = self._loop.time() + self._settings.statement_timeout
        outcomes: list[Written] = []
        for call in batch:
            if self._loop.time() < end:
                outcomes += await self._flush([call])
            else:
                outcomes.append(self._give_up(call, error))
        return outcomes

    async def _attempt(self, batch: Sequence[_Call], lost: Connection | None) -> Sequence[Written]:
        async with self._pool.connection() as connection:
            self._taken += 1
            if lost is not None:
                await self._pool.wait_for_end_of(lost, connection)
            try:
                return await self._send(connection, batch)
            except (*LOST, asyncio.CancelledError):
                for call in batch:
                    call.lost, call.repeated = connection, True
                raise

    async def _send(self, connection: Connection, batch: Sequence[_Call]) -> Sequence[Written]:
        repeated = any(call.repeated for call in batch)
        rows = await self._fetch(connection, [call.args for call in batch], repeated=repeated)
        if rows and self._query.makes_events:
            self._pool.committed(self._query.arrivals(call.args for call in batch))
        outcomes: list[Written] = [None] * len(batch)
        for row in rows:
            outcomes[row[0] - 1] = row[1:]
        return outcomes

    async def _fetch(
        self, connection: Connection, calls: Sequence[Args], *, repeated: bool
    ) -> Sequence[Any]:
        """The rows of these calls, by the statement that sends once what they share if they do."""
        if repeated:
            columns = as_columns(list(map(self._bind_again, calls)))
            return await connection.fetch(self._text_again, *columns)
        if self._alike is not None and (shared := self._alike.columns(calls)) is not None:
            try:
                return await connection.fetch(self._alike.text, *shared)
            except (asyncpg.UniqueViolationError, asyncpg.ExclusionViolationError) as error:
                if error.table_name != "jobs":
                    raise
                # An id that was generated is taken, and nothing was stored. The other statement
                # passes over it, and its caller is given another.
        return await connection.fetch(self._text, *as_columns(list(map(self._bind, calls))))

    def _give_up(self, call: _Call, failure: Exception) -> PandoraDbError:
        if call.lost is not None:
            operation = call.args.get("operation_id")
            error: PandoraDbError = OutcomeUnknown(operation and UUID(operation), self._name)
        else:
            error = translate(failure, self._target)
        error.__cause__ = failure
        return error

    def abandon(self) -> None:
        """Stop waiting for whatever is under way; its callers get `OutcomeUnknown`."""
        for flight in self._flights:
            flight.cancel()
        self._leave(self._queue, _closed())
        self._queue.clear()
        self._room.refuse(_closed)

    def _leave(self, calls: Iterable[_Call], failure: Exception) -> None:
        for call in calls:
            if not call.future.done():
                call.future.set_exception(_copy(self._give_up(call, failure)))


def _closed() -> HandleClosed:
    return HandleClosed("the handle was closed")


def _is_doubled(error: asyncpg.PostgresError) -> bool:
    """Whether one call of a batch is refused for good, were the batch to stay together."""
    return isinstance(error, asyncpg.UniqueViolationError)


def _copy(error: PandoraDbError) -> PandoraDbError:
    """An error of one's own for each caller: tracebacks are appended to the object raised."""
    build, arguments = error.__reduce__()
    copy = build(*arguments)
    copy.__cause__ = error
    return copy
