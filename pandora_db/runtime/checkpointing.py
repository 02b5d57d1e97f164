"""Saving the state of a job now and then, and whenever it must not be lost."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from pandora_db.errors import PandoraDbError
from pandora_db.runtime.passing import FIRST_PAUSE, next_pause, passes
from pandora_db.services.outage import Outage

if TYPE_CHECKING:
    from collections.abc import Callable

    from pandora_db.models.claim import Claim
    from pandora_db.store import Store

log = logging.getLogger("pandora_db")


class _Unsaved(NamedTuple):
    """What gives the state and its version: only what is written has to be made."""

    read: Callable[[], tuple[object, int]]


class Checkpointing:
    """Makes `checkpoint` cheap to call: at most one write in `every` seconds, unless forced."""

    def __init__(self, db: Store, claim: Claim, every: float) -> None:
        self._db = db
        self._claim = claim
        self._every = every
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time()
        self._unsaved: _Unsaved | None = None
        self._saving = asyncio.Lock()  # one after the other: a large one takes longer to pack
        self._outage = Outage()

    async def save(
        self, read: Callable[[], tuple[object, int]], *, force: bool, stopping: bool
    ) -> bool:
        """Save what `read` gives, a state and its version, if it is time to; whether it was.

        What cannot be saved for now is saved the next time, unless `force` asks for it at once.
        """
        before, self._unsaved = self._unsaved, _Unsaved(read)
        unsaved = self._unsaved
        if not (force or stopping) and self._loop.time() < self._next:
            return False
        try:
            await self.flush()
        except PandoraDbError as error:
            if not passes(error):
                if self._unsaved is unsaved:
                    self._unsaved = before  # which may be kept
                raise
            if force:
                raise
            words = "a checkpoint of job %d could not be written yet: %s"
            log.log(self._outage.failed(), words, self._claim.job_id, error)
            self._next = self._loop.time() + self._every
            return False
        return True

    async def flush(self) -> None:
        """Save what was not saved yet, as it is now."""
        async with self._saving:
            unsaved = self._unsaved
            if unsaved is None:
                return
            state, version = unsaved.read()
            await self._db.save_checkpoint(self._claim, state, version=version)
            if self._unsaved is unsaved:  # nothing newer came meanwhile
                self._unsaved = None
            self._next = self._loop.time() + self._every
            self._outage.over()

    async def flush_last(self) -> None:
        """The same before a stop, through failures that pass, for as long as a lease lasts.

        The time that the handler has to stop is shorter, as a rule. What is not written then is
        told in the log: a stop that was asked for must not fail the attempt.
        """
        until = self._loop.time() + self._claim.lease
        pause = FIRST_PAUSE
        while True:
            try:
                return await self.flush()
            except PandoraDbError as error:
                if not passes(error):
                    raise
                words = "the last checkpoint of job %d could not be written yet: %s"
                log.log(self._outage.failed(), words, self._claim.job_id, error)
                if self._loop.time() + pause > until:
                    return None
            await asyncio.sleep(pause)
            pause = next_pause(pause)

    async def load(self, **options: Any) -> Any:  # noqa: ANN401 - as load_checkpoint has them
        """What the attempt before this one saved last."""
        return await self._db.load_checkpoint(self._claim, **options)
