"""Bringing one state of one job to Discord, and its new message to the job."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pandora_db.discord.door import Door, nonce_of, same
from pandora_db.discord.verdicts import Verdict, judge, retry_after
from pandora_db.errors import HandleClosed, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from pandora_db.discord.lines import Line, Shown
    from pandora_db.discord.message import MessageRef
    from pandora_db.store import Store

log = logging.getLogger("pandora_db.discord")

LONGEST = 60.0
"""Seconds between two attempts, at most."""
OLD = 3600.0
"""Seconds after which Discord lets a message be edited rarely: error 30046."""
_PATIENCE = 10.0  # seconds for an edit of such a message


class Delivery:
    """Edits a message, or puts a new one in its place."""

    def __init__(self, door: Door, db: Store | None) -> None:
        self._door = door
        self._db = db

    async def deliver(self, line: Line, wanted: Shown | None) -> bool:
        """Show `wanted`, and store what is not stored; raises whatever went wrong.

        Returns:
            Whether it is shown; False when it takes another edit.
        """
        shown = wanted is None or await self._show(line, wanted)
        if line.unstored:
            await self._store(line)
        return shown

    async def shows(
        self, ref: MessageRef, fields: dict[str, Any], closed: Callable[[], bool]
    ) -> bool:
        """Whether a message shows these fields; asked again until Discord says, or `closed`.

        True when there is nothing to do: nobody knows any more what a deleted message showed, and
        whoever deleted it does not want it again.
        """
        if not ref.message_id:
            return False
        failures = 0
        while not closed():
            try:
                return same(await self._door.fetch(ref), fields)
            except Exception as error:  # noqa: BLE001 - of any library, and none may come out
                if judge(error) not in (Verdict.WAIT, Verdict.RETRY):
                    log.info("message %d cannot be read: %s", ref.message_id, error)
                    return True
                await asyncio.sleep(retry_after(error) or min(2.0**failures, LONGEST))
                failures += 1
        return True

    async def _show(self, line: Line, wanted: Shown) -> bool:
        ref = line.ref
        if ref.message_id and await self._edited(line, wanted):
            line.shown = wanted
            return True
        nonce = nonce_of(line.job_id, ref)
        message_id, shows = await self._door.send(ref, wanted.fields, nonce)
        line.ref = replace(ref, message_id=message_id)
        line.unstored = self._db is not None
        line.shown = wanted if shows else None
        return shows

    async def _edited(self, line: Line, wanted: Shown) -> bool:
        """Edit the message; False when another one has to take its place."""
        old = line.ref.age() > OLD
        try:
            # The libraries wait error 30046 out by themselves, over and over.
            async with asyncio.timeout(_PATIENCE if old else None):
                await self._door.edit(line.ref, wanted.fields)
        except Exception as error:
            waits = isinstance(error, TimeoutError) or judge(error) is Verdict.WAIT
            if judge(error) is not Verdict.REPLACE and not (old and waits):
                raise
            why = str(error) or "it is older than an hour, and edits of it have to wait"
            log.info("job %d: a new message takes the place of one: %s", line.job_id, why)
            return False
        return True

    async def _store(self, line: Line) -> None:
        assert self._db is not None  # noqa: S101 - otherwise there is nothing unstored
        ref = line.ref
        try:
            await self._db.update_job(line.job_id, message_id=ref.message_id)
        except NotFound:
            pass  # deleted; its message stays as it is
        except HandleClosed:
            log.warning(
                "job %d: its new message %d could not be stored, the handle was closed; close the "
                "updater first",
                line.job_id, ref.message_id,
            )  # fmt: skip
        if line.ref is ref:
            line.unstored = False
