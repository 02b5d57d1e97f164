"""Telling other processes that something was committed: NOTIFY, seldom and never in their way.

A commit that notifies takes a lock that is shared by all of them. So none of our commits does: one
empty transaction behind them says that there is news, at once after a pause, and ever more seldom
while commits come one after the other. Who listens then polls, as things happen.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

from pandora_db.drivers.postgres.errors import LOST
from pandora_db.errors import PandoraDbError

if TYPE_CHECKING:
    from pandora_db.drivers.postgres.pool import Pool
    from pandora_db.sqlfiles import Catalogue

log = logging.getLogger("pandora_db")

_FIRST, _GROWTH, _MOST = 0.005, 4, 0.5
"""Seconds between two notifications, at first and at last; a pause without news begins anew."""
_LONGEST_NAME = 63
_FEW = 20
_STAGE = re.compile(r"[0-9]{1,5}")


def channel(schema: str) -> str:
    """The channel of a schema; the server keeps those of its databases apart."""
    name = f"pandora_db {schema}"
    if len(name) > _LONGEST_NAME:
        name = f"pandora_db {hashlib.sha256(schema.encode()).hexdigest()[:32]}"
    return name


def written(sender: str, stages: Collection[int]) -> str:
    """What is sent: who has committed, and where jobs came to if those are few stages."""
    return " ".join([sender, *map(str, sorted(stages))]) if len(stages) <= _FEW else sender


def read(payload: str) -> tuple[str, list[int]]:
    """The same read; what else somebody may have sent to the channel tells no stage."""
    sender, *stages = payload.split(" ")
    return sender, [int(stage) for stage in stages if _STAGE.fullmatch(stage)]


class Notifier:
    """Notifies for one handle, in a task that lives while there is something to tell."""

    def __init__(self, pool: Pool, queries: Catalogue, schema: str) -> None:
        self.sender = secrets.token_hex(4)  # so that the handle need not listen to itself
        self._pool = pool
        query = queries.get("notify")
        self._text = query.text
        self._bind = query.statements[0].bind
        self._channel = channel(schema)
        self._stages: set[int] = set()
        self._loop = asyncio.get_running_loop()
        self._news = False
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def tell(self, stages: Iterable[int]) -> None:
        """There is news, at these stages if that is known: let the others know soon."""
        self._news = True
        self._stages.update(stages)
        if self._task is None:
            self._task = self._loop.create_task(self._run())

    async def close(self) -> None:
        """Tell what is to be told, then end; the caller has a deadline."""
        if self._task is not None:
            self._hurry.set()
            task = self._task
            try:
                await asyncio.wait([task])
            finally:
                task.cancel()

    async def _run(self) -> None:
        pause = _FIRST
        try:
            while self._news:
                self._news = False
                await self._notify()
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._hurry.wait()
                pause = min(_GROWTH * pause, _MOST)
        finally:
            self._task = None

    async def _notify(self) -> None:
        stages, self._stages = self._stages, set()
        args = {"channel": self._channel, "payload": written(self.sender, stages)}
        try:
            async with self._pool.connection(counted=False) as connection:
                await connection.fetchrow(self._text, *self._bind(args))
        except (PandoraDbError, asyncpg.PostgresError, *LOST) as error:  # they poll
            log.debug("nobody was notified: %s", error)
