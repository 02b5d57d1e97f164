"""Recovery by itself (P6): soon after the start and then on a timer, in every process."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING

from pandora_db.errors import PandoraDbError, SchemaMissing
from pandora_db.services.outage import Outage
from pandora_db.services.recovered import tell_recovered

if TYPE_CHECKING:
    from pandora_db.store.recovery import Recovery

log = logging.getLogger("pandora_db")

_SOON = 0.5
"""Seconds to the first sweep, at most: handles that are opened for a moment need none."""


class Sweeper:
    """Looks every `seconds`, with jitter: many processes need not look at the same moment."""

    def __init__(self, store: Recovery, seconds: float) -> None:
        self._store = store
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End; a sweep that is under way is completed or undone by the engine."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        await asyncio.sleep(random.uniform(0.5, 1) * min(_SOON, self._seconds))  # noqa: S311
        outage = Outage()
        while True:
            try:
                await self._sweep()
            except SchemaMissing:
                pass  # init_schema() was not called yet
            except PandoraDbError as error:
                log.log(outage.failed(), "the sweep for lost workers failed: %s", error)
            except Exception:
                level = outage.failed(logging.ERROR)
                log.log(level, "the sweep for lost workers failed", exc_info=True)
            else:
                if (seconds := outage.over()) is not None:
                    log.info("the sweep for lost workers works again, after %.1f s", seconds)
            await asyncio.sleep(self._seconds * random.uniform(0.8, 1.0))  # noqa: S311

    async def _sweep(self) -> None:
        if not await self._store.has_lapsed():
            return
        tell_recovered((await self._store.recover()).jobs)
