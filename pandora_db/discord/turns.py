"""Whose turn it is: one task for each channel that has something to show."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import Context

from pandora_db.discord.delivery import LONGEST, OLD, Delivery
from pandora_db.discord.lines import Lane, Line, Shown
from pandora_db.discord.message import MessageRef
from pandora_db.discord.pace import Pace
from pandora_db.discord.verdicts import Verdict, judge, retry_after
from pandora_db.errors import PandoraDbError

log = logging.getLogger("pandora_db.discord")

_EVERY_OLD = 60.0  # seconds between two edits of a message older than an hour
# Seconds in which a request is at Discord. When the limit is used up, discord.py returns from the
# last edit only when there is room again.
_REACHED = 1.0
_LANES = 1000  # that may be kept for their pace alone


class Turns:
    """Lets the lines of each channel be delivered in turn."""

    def __init__(self, delivery: Delivery, *, edits: int, per: float, every: float) -> None:
        self._delivery = delivery
        self._edits = edits
        self._per = per
        self._every = every
        self._every_old = max(_EVERY_OLD, every)
        self._lanes: dict[int, Lane] = {}
        self._closing = False

    def enter(self, line: Line) -> None:
        """Let a line wait for its turn in its channel."""
        lane = self._lane(line)
        lane.enter(line)
        if lane.task is None:
            # Not in the caller's context, which may be that of an open transaction.
            loop = asyncio.get_running_loop()
            lane.task = loop.create_task(self._work(lane), context=Context())

    def leave(self, line: Line) -> None:
        """Take a line out."""
        self._lane(line).leave(line)

    def renew(self, line: Line, ref: MessageRef) -> Line:
        """The line of the same job with another message; what is on its way to the old one ends."""
        self.leave(line)
        line.dropped = True
        renewed = Line(line.job_id, ref, wanted=line.wanted, ended=line.ended, waiters=line.waiters)
        line.waiters = []
        if renewed.wanted is not None:
            self.enter(renewed)
        return renewed

    def ring(self, line: Line) -> None:
        """It is urgent now: do not sleep over it."""
        self._lane(line).rung.set()

    async def close(self, timeout: float) -> None:
        """Deliver what is left, without a pause but for the limits, at most so many seconds."""
        self._closing = True
        tasks = [lane.task for lane in self._lanes.values() if lane.task is not None]
        for lane in self._lanes.values():
            lane.rung.set()
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=timeout)
        finally:
            left = [task for task in tasks if not task.done()]
            for task in left:
                task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)
        self._lanes.clear()

    def _lane(self, line: Line) -> Lane:
        channel_id = line.ref.channel_id
        lane = self._lanes.get(channel_id)
        if lane is None:
            if len(self._lanes) >= _LANES:
                self._lanes = {key: lane for key, lane in self._lanes.items() if lane.task}
            lane = self._lanes[channel_id] = Lane(Pace(self._edits, self._per))
        return lane

    async def _work(self, lane: Lane) -> None:
        """Edit the messages of one channel in turn, until they all show what they should."""
        loop = asyncio.get_running_loop()
        try:
            while lane:
                lane.rung.clear()
                now = loop.time()
                due = lane.pace.due()
                line, when = (None, due) if due > now else lane.choose(now, hurry=self._closing)
                if line is not None:
                    await self._turn(lane, line)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout_at(when):
                        await lane.rung.wait()
        finally:
            lane.task = None

    async def _turn(self, lane: Lane, line: Line) -> None:
        loop = asyncio.get_running_loop()
        wanted, begun = line.wanted, loop.time()
        try:
            shown = await self._delivery.deliver(line, wanted)
        except Exception as error:  # noqa: BLE001 - of any library, and none may come out
            self._failed(lane, line, wanted, error)
        else:
            every = self._every_old if line.ref.age() > OLD else self._every
            line.failures, line.due = 0, loop.time() + every
            if shown:
                self._settled(line, wanted)
        finally:
            lane.pace.mark(min(loop.time(), begun + _REACHED))
        if not line.dirty or line.dropped:
            lane.leave(line)
            line.answer(delivered=not line.gone)
        else:
            lane.requeue(line)

    def _failed(self, lane: Lane, line: Line, wanted: Shown | None, error: Exception) -> None:
        now = asyncio.get_running_loop().time()
        verdict = judge(error)
        seconds = retry_after(error)
        if seconds is not None:
            log.warning("channel %d: edits wait for %.1f s", line.ref.channel_id, seconds)
            lane.pace.pause(now + seconds)
        elif verdict is Verdict.RETRY or isinstance(error, PandoraDbError):
            if line.shown is wanted:  # and could not be stored
                self._settled(line, wanted)
            if not line.failures:
                log.warning("job %d: trying again: %s", line.job_id, error)
            line.due = now + min(2.0**line.failures, LONGEST)
            line.failures += 1
        else:
            line.gone = verdict is not Verdict.REFUSED
            log.error("job %d: cannot be shown: %s", line.job_id, error)
            self._settled(line, wanted)
            line.answer(delivered=False)

    def _settled(self, line: Line, wanted: Shown | None) -> None:
        if wanted is None:
            return
        if line.wanted is wanted or line.gone:
            line.wanted = None
        line.ended = wanted.last
