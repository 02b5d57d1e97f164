"""Saving the state of a job now and then, and whenever it must not be lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandora_db.models.claim import Claim
    from pandora_db.store import Store


class Checkpointing:
    """Makes `checkpoint` cheap to call: at most one write in `every` seconds, unless forced."""

    def __init__(self, db: Store, claim: Claim, every: float) -> None:
        self._db = db
        self._claim = claim
        self._every = every
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.time()
        self._unsaved: tuple[object, int] | None = None

    async def save(self, state: object, version: int, *, force: bool) -> bool:
        """Save it if it is time to; whether it was saved."""
        self._unsaved = (state, version)
        if not force and self._loop.time() < self._next:
            return False
        await self.flush()
        return True

    async def flush(self) -> None:
        """Save what was not saved yet, as it is now."""
        if self._unsaved is None:
            return
        state, version = self._unsaved
        await self._db.save_checkpoint(self._claim, state, version=version)
        self._unsaved = None
        self._next = self._loop.time() + self._every

    async def load(self, **options: Any) -> Any:  # noqa: ANN401 - as load_checkpoint has them
        """What the attempt before this one saved last."""
        return await self._db.load_checkpoint(self._claim, **options)
