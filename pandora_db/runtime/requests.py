"""What is asked of the jobs at work here, heard when it happens and not with the next heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from pandora_db.db import internals
from pandora_db.errors import PandoraDbError

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.models.claim import Claim


class Requests:
    """Looks after all claims at once, a few times a second at most, when something has happened.

    Where nobody would tell it so, it looks each `poll` seconds.
    """

    def __init__(self, db: JobDb, claims: Callable[[], Iterable[Claim]], poll: float) -> None:
        self._db = db
        self._claims = claims
        self._poll = poll
        self._again = False
        self._task: asyncio.Task[None] | None = None
        self._undo: Callable[[], None] | None = None

    def start(self) -> None:
        """Begin."""
        self._undo = internals(self._db).lookout.attend(self._look, self._poll)

    def stop(self) -> None:
        """End; it may have ended before."""
        if self._undo is not None:
            self._undo()
            self._undo = None
        if self._task is not None:
            self._task.cancel()

    def _look(self) -> None:
        self._again = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._refresh())

    async def _refresh(self) -> None:
        while self._again:
            self._again = False
            claims = [claim for claim in self._claims() if claim.alive]
            if claims:
                with suppress(PandoraDbError):  # the heartbeat asks again
                    await self._db.refresh_claims(claims)
