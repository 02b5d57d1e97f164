"""`ProgressUpdater`: the newest state of each job, in its message, within the edit limits."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pandora_db.codecs.checks import check_id, check_int
from pandora_db.codecs.claim import check_seconds
from pandora_db.discord.delivery import Delivery
from pandora_db.discord.door import Door
from pandora_db.discord.fields import check_fields
from pandora_db.discord.lines import Line, Shown
from pandora_db.discord.message import MessageRef
from pandora_db.discord.turns import Turns

if TYPE_CHECKING:
    from pandora_db.models.job_row import JobRow
    from pandora_db.store import Store

log = logging.getLogger("pandora_db.discord")


class ProgressUpdater:
    """Shows jobs in their Discord messages, as often as Discord permits.

    `show` may be called any number of times a second: the newest state of each job is kept, and one
    task for each channel edits the messages in turn. The last state of a job goes first, is tried
    until it is there, and nothing that comes later takes its place. A message that can no longer be
    edited is replaced by a new one, which is stored with the job. No error of Discord comes out.

    It belongs to one event loop: call it from there, not from threads.
    """

    def __init__(
        self,
        client: object,
        db: Store | None = None,
        *,
        edits: int = 5,
        per: float = 5.0,
        every: float = 1.0,
        limit: int = 10_000,
    ) -> None:
        """Make it; nothing runs until something is shown.

        Args:
            client: a Client or Bot of discord.py, nextcord, py-cord or disnake.
            db: where the id of a message that replaces another is stored; None keeps it in memory.
            edits: so many edits, of all messages of one channel together,
            per: within so many seconds.
            every: seconds between two edits of one message, unless it is the last.
            limit: at most so many jobs are kept in mind; beyond it the oldest progress goes first.

        Raises:
            InvalidInput: an argument of the wrong type or out of range.
        """
        self._delivery = Delivery(Door(client), db)
        self._turns = Turns(
            self._delivery,
            edits=check_int(edits, "edits", 1, 1000),
            per=check_seconds(per, "per"),
            every=check_seconds(every, "every"),
        )
        self._limit = check_int(limit, "limit", 1, 1_000_000)
        self._lines: OrderedDict[int, Line] = OrderedDict()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def show(
        self, job: JobRow, content: str | None = None, *, last: bool = False, **fields: object
    ) -> None:
        """Have the message of `job` show this soon; returns at once.

        A job without a channel has no message and is left alone. One with a channel and no message
        gets a new message.

        Args:
            job: as it was read at any time; a message that took the place of its own is known.
            content: the text, cut at 2,000 characters; None leaves it as it is.
            last: the job has ended: this is delivered whatever happens, and later calls count only
                if they are `last` too (`forget` begins anew).
            fields: `embed`, `embeds`, `view`, `allowed_mentions` of the library that is used; None
                takes one away.

        Raises:
            InvalidInput: nothing to show, or a field that is not known.
        """
        wanted = Shown(check_fields(_given(content, fields)), last)
        if self._closed:
            log.warning("job %d: shown after close(), and dropped", job.job_id)
            return
        line = self._line(job)
        if line is None or line.gone:
            return
        waiting = line.wanted
        ending = line.ended if waiting is None else waiting.last
        if ending and not last:
            return
        if waiting is None and line.shown is not None and line.shown.same(wanted):
            line.ended = last
            return
        line.wanted = wanted
        self._turns.enter(line)
        if last and not ending:
            self._turns.ring(line)

    async def finish(
        self,
        job: JobRow,
        content: str | None = None,
        *,
        timeout: float = 10.0,
        **fields: object,
    ) -> bool:
        """`show` the last state, and wait until it is there.

        Returns:
            Whether it is. After `timeout` seconds it is False, and it is tried further; it is False
            too when neither the message nor its channel can be reached any more.

        Raises:
            InvalidInput: as `show`.
        """
        self.show(job, content, last=True, **fields)
        return await self.settle(job.job_id, timeout=timeout)

    async def settle(self, job_id: int, *, timeout: float = 10.0) -> bool:
        """Wait until the message of a job shows what was asked for; whether it does.

        Raises:
            InvalidInput: `job_id` or `timeout` is out of range.
        """
        check_seconds(timeout, "timeout")
        line = self._lines.get(check_id(job_id))
        if line is None or not line.dirty:
            return line is None or not line.gone
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        line.waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        except TimeoutError:
            return False
        finally:
            if waiter in line.waiters:
                line.waiters.remove(waiter)

    def forget(self, job_id: int) -> None:
        """Drop what is known of a job: it was deleted, or it begins anew."""
        line = self._lines.pop(job_id, None)
        if line is not None:
            self._turns.leave(line)
            line.dropped = True
            line.answer(delivered=False)

    async def shows(self, job: JobRow, content: str | None = None, **fields: object) -> bool:
        """Ask Discord whether the message of `job` shows this, as before a restart it may have.

        Texts of the content and of embeds are compared, not buttons and pictures. While Discord is
        away it is asked again.

        Returns:
            Whether it does. True too when there is nothing to be done about it: the job has no
            message, it was deleted, its channel cannot be reached any more, or `close` was called.

        Raises:
            InvalidInput: as `show`.
        """
        wanted = check_fields(_given(content, fields))
        ref = MessageRef.from_job(job)
        if ref is None:
            return True
        return await self._delivery.shows(ref, wanted, lambda: self._closed)

    async def close(self, timeout: float = 10.0) -> tuple[int, ...]:
        """Deliver what is left, last states first, within `timeout` seconds, then stop.

        Call it while the client is still connected. Calling it again does nothing.

        Returns:
            The jobs whose message may not show their newest state.

        Raises:
            InvalidInput: `timeout` is out of range.
        """
        check_seconds(timeout, "timeout")
        self._closed = True
        for line in self._lines.values():
            line.due = 0.0
        await self._turns.close(timeout)
        undelivered = tuple(job_id for job_id, line in self._lines.items() if line.dirty)
        for line in self._lines.values():
            line.answer(delivered=not line.dirty)
        if undelivered:
            log.warning("closed before these jobs were shown as they are: %s", undelivered)
        self._lines.clear()
        return undelivered

    def _line(self, job: JobRow) -> Line | None:
        ref = MessageRef.from_job(job)
        if ref is None:
            return None
        line = self._lines.get(job.job_id)
        if line is None:
            if len(self._lines) >= self._limit:
                self._make_room()
            line = self._lines[job.job_id] = Line(job.job_id, ref)
        # Ids grow with time: the greater is of the message that took the place of the other.
        elif ref.message_id > line.ref.message_id and not line.unstored:
            line = self._lines[job.job_id] = self._turns.renew(line, ref)
        self._lines.move_to_end(job.job_id)
        return line

    def _make_room(self) -> None:
        """Leave out the job that is missed least: one with nothing to show, or with no end."""
        lines = self._lines.values()
        idle = next((line for line in lines if not line.dirty), None)
        running = next((line for line in lines if not (line.wanted and line.wanted.last)), None)
        chosen = idle or running or next(iter(lines))
        if chosen.dirty:
            log.warning("job %d is not shown: %d others wait", chosen.job_id, self._limit)
        self.forget(chosen.job_id)


def _given(content: str | None, fields: dict[str, object]) -> dict[str, object]:
    return fields if content is None else {"content": content, **fields}
