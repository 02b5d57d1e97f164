"""Group commit on SQLite (P9): what arrives while the thread is busy goes out together.

A lane belongs to one connection. A flight is one hop into its thread with every call that waits; a
long one takes along who comes while it works (`Gate`). A caller's cancellation never reaches the
thread: a call that was not handed to it yet is withdrawn, any other is completed. Transactions take
the lane in turn with the flights, first come first served.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from pandora_db.config import Settings
from pandora_db.drivers.base import Row
from pandora_db.drivers.room import Room
from pandora_db.drivers.sqlite.crowd import Call
from pandora_db.drivers.sqlite.errors import translate
from pandora_db.drivers.sqlite.gate import Gate, Waiting
from pandora_db.drivers.sqlite.hop import Begun, Hop
from pandora_db.drivers.sqlite.work import Result
from pandora_db.errors import PandoraDbError, PoolTimeout
from pandora_db.sqlfiles import Query

T = TypeVar("T")
Flight = Callable[[sqlite3.Connection, Sequence[Call], Begun, Gate | None], list[Result]]
_Outcome = Result | BaseException
_Answer = tuple[Waiting, _Outcome]
_WORTH_IT = 16
"""Calls of one flight from which on handing over to its thread, some 0.1 ms, is worth it."""
_LONG = 16
"""Jobs of a claim, or rows of an answer, from which on it is a long one. A claim of a hundred takes
the thread 1 ms; to look at it takes the loop 0.3 ms, so the next flight goes before its caller."""


def _is_long(call: Call) -> bool:
    """Whether it takes as long as dozens of other writes: a claim of many."""
    query, args = call
    return query.name == "claim_jobs" and args["limit"] >= _LONG


class Lane:
    """The queue in front of one connection.

    Attributes:
        hop: the connection.
        on_release: called after each flight, with its calls, and after each transaction, with None.
        turns: how many flights and transactions have begun.
    """

    def __init__(self, hop: Hop, fly: Flight, settings: Settings, path: str) -> None:
        self.hop = hop
        self.on_release: Callable[[Sequence[Call] | None], None] | None = None
        self.turns = 0
        self._fly = fly
        self._settings = settings
        self._path = path
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Waiting] = deque()
        self._busy = False  # a flight is out, or a transaction has the turn
        self._gate: Gate | None = None  # of the flight that is out
        self._scheduled = False
        self._crowd = False
        self._patience: asyncio.TimerHandle | None = None
        self._room = Room(self._queue, settings.max_pending)
        self._quiet = asyncio.Event()
        self._quiet.set()

    @property
    def waiting(self) -> int:
        """Calls that are queued."""
        return len(self._queue)

    @property
    def busy(self) -> bool:
        """Whether a flight is out, or a transaction has the turn."""
        return self._busy

    def call(self, query: Query, args: Mapping[str, Any]) -> Awaitable[list[Any]]:
        """Run one operation with whatever else waits; gives its rows after the commit."""
        if self._room.is_free:
            return self._enter((query, args))
        return self._in_time(lambda: self._enter((query, args)))

    def call_for_one(self, query: Query, args: Mapping[str, Any]) -> Awaitable[Row | None]:
        """The same, of which the first row is wanted, if there is one."""
        if self._room.is_free:
            return self._enter((query, args), first=True)
        return self._in_time(lambda: self._enter((query, args), first=True))

    async def call_each(self, calls: Sequence[Call]) -> Sequence[asyncio.Future[Row | None]]:
        """Queue many operations, which fly together as far as they can; of each the first row."""
        if not self._room.is_free:
            await self._wait_for_room()
        now = self._loop.time()
        waiting = [Waiting(call, self._loop.create_future(), now, first=True) for call in calls]
        for one in waiting:
            if not self._try_join(one):
                self._queue.append(one)
        self._start(many=True)
        return [one.future for one in waiting]

    async def _in_time(self, enter: Callable[[], asyncio.Future[T]]) -> T:
        await self._wait_for_room()
        return await enter()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[Hop, None]:
        """The connection for oneself."""
        if not self._room.is_free:
            await self._wait_for_room()
        future = self._enter(None)
        try:
            await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self._release()
            raise
        try:
            yield self.hop
        finally:
            self._release()

    async def drain(self) -> None:
        """Wait until nothing is queued or under way."""
        await self._quiet.wait()

    async def _wait_for_room(self) -> None:
        try:
            await self._room.wait(self._settings.acquire_timeout)
        except TimeoutError:
            raise PoolTimeout(
                f"{len(self._queue)} calls wait already (max_pending), and this one found no room "
                f"within acquire_timeout ({self._settings.acquire_timeout:g} s) on {self._path}"
            ) from None

    def _enter(self, call: Call | None, *, first: bool = False) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        waiting = Waiting(call, future, self._loop.time(), first=first)
        if not self._try_join(waiting):
            self._queue.append(waiting)
            self._start()
        return future

    def _try_join(self, waiting: Waiting) -> bool:
        """Join the flight that is out, in time and with nobody queued before; whether it has."""
        if self._gate is None or self._queue or waiting.call is None:
            return False
        return self._gate.board(waiting)

    def _start(self, *, many: bool = False) -> None:
        if not self._busy and not self._scheduled:
            self._quiet.clear()
            if self._crowd and not many:
                self._schedule()
            else:
                self._next()
        if self._queue and self._patience is None:
            self._patience = self._loop.call_later(self._settings.acquire_timeout, self._expire)

    def _schedule(self) -> None:
        # After the callers that were woken before this: what they ask for next joins the flight.
        self._scheduled = True
        self._loop.call_soon(self._next)

    def _next(self) -> None:
        self._scheduled = False
        batch: list[Waiting] = []
        while self._queue and len(batch) < self._settings.max_batch:
            head = self._queue[0]
            if head.call is None and batch:
                break
            self._queue.popleft()
            if head.future.done():
                continue  # withdrawn
            if head.call is None:
                self._busy = True
                self.turns += 1
                head.future.set_result(None)
                break
            batch.append(head)
        self._room.wake()
        if batch:
            self._take_off(batch)
        elif not self._busy:
            self._quiet.set()

    def _take_off(self, batch: list[Waiting]) -> None:
        self._busy = True
        self.turns += 1
        self._crowd = len(batch) > 1
        calls = [waiting.call for waiting in batch if waiting.call is not None]
        is_long = any(map(_is_long, calls))
        gate = self._gate = Gate(self._settings.max_batch - len(batch)) if is_long else None
        alarm = self._loop.call_later(self._settings.statement_timeout, self.hop.interrupt)
        self.hop.post(
            lambda connection, begun: self._fly(connection, calls, begun, gate),
            lambda landed: self._land(batch, landed, alarm),
            hand_over=is_long or len(batch) >= _WORTH_IT,
        )

    def _land(
        self,
        batch: list[Waiting],
        landed: list[Result] | BaseException,
        alarm: asyncio.TimerHandle,
    ) -> None:
        alarm.cancel()
        gate, self._gate = self._gate, None
        if gate is not None and gate.closed:
            batch = [*batch, *gate.boarded]
            self._crowd = len(batch) > 1  # what they ask for next is gathered again
        elif gate is not None:  # it failed, or each was done by itself: they were not asked for
            self._queue.extendleft(reversed(gate.boarded))
        results: Sequence[_Outcome]
        results = landed if isinstance(landed, list) else [landed] * len(batch)
        calls = [waiting.call for waiting in batch if waiting.call is not None]
        before, after = self._around_take_off(batch, results)
        for waiting, result in before:
            self._answer(waiting, result)
        self._release(calls, soon=bool(before and after))
        for waiting, result in after:
            self._answer(waiting, result)

    def _around_take_off(
        self, batch: Sequence[Waiting], results: Sequence[_Outcome]
    ) -> tuple[Sequence[_Answer], Sequence[_Answer]]:
        """Who is answered before the next flight takes off, and who after it.

        Before it short answers: what their callers ask for next is in it. After it long ones, and
        all of them where a claim of many is next: what is asked for then joins it.
        """
        short: list[_Answer] = []
        long: list[_Answer] = []
        for waiting, result in zip(batch, results, strict=True):
            has_much = isinstance(result, list) and len(result) >= _LONG
            (long if has_much else short).append((waiting, result))
        head = self._queue[0] if self._queue else None
        if head is not None and head.call is not None and _is_long(head.call):
            return (), [*short, *long]
        return short, long

    def _answer(self, waiting: Waiting, result: _Outcome) -> None:
        if waiting.future.done():
            return
        if isinstance(result, list):
            answer = next(iter(result), None) if waiting.first else result
            waiting.future.set_result(answer)
        elif isinstance(result, PandoraDbError):
            waiting.future.set_exception(result)
        else:
            ours = translate(result, self._path)
            ours.__cause__ = result
            waiting.future.set_exception(ours)

    def _release(self, calls: Sequence[Call] | None = None, *, soon: bool = False) -> None:
        self._busy = False
        if self.on_release is not None:
            self.on_release(calls)
        if self._queue or soon:
            self._schedule()
        else:
            self._room.wake()  # what joined the flight left the queue as empty as it was
            self._quiet.set()

    def _expire(self) -> None:
        self._patience = None
        now, limit = self._loop.time(), self._settings.acquire_timeout
        while self._queue and (self._queue[0].future.done() or now - self._queue[0].since >= limit):
            waiting = self._queue.popleft()
            if not waiting.future.done():
                waiting.future.set_exception(self._too_long())
        self._room.wake()
        if self._queue:
            self._patience = self._loop.call_at(self._queue[0].since + limit, self._expire)

    def _too_long(self) -> PoolTimeout:
        return PoolTimeout(
            f"no turn on {self._path} within acquire_timeout "
            f"({self._settings.acquire_timeout:g} s): {len(self._queue)} calls wait; "
            "look for a transaction that stays open"
        )
