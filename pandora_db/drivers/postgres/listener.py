"""Hearing what other processes notify: LISTEN on a connection that does nothing else."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import asyncpg

from pandora_db.drivers.base import OnNews
from pandora_db.drivers.postgres.errors import LOST
from pandora_db.drivers.postgres.notifier import read
from pandora_db.errors import PandoraDbError

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

log = logging.getLogger("pandora_db")

_SOON, _LATER = 0.1, 5.0  # seconds between two attempts to connect
_CHECK = 30.0  # seconds between two looks whether a silent line is there still
_PATIENCE = 1.0  # seconds to part in peace, and for a connection that nobody needs any more


class Listener:
    """Calls `on_news` for each notification of another handle, and when one may be lost.

    Attributes:
        up: whether it hears; notifications are hints, and polling is the truth either way.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        channel: str,
        deaf_to: str,
        ping: str,
        on_news: OnNews,
    ) -> None:
        self.up = False
        self._connect = connect
        self._channel = channel
        self._deaf_to = deaf_to
        self._ping = ping
        self._on_news = on_news
        self._gone = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        """Disconnect."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                connection = await self._open()
                try:
                    await self._listen(connection)
                    failures = 0
                    await self._stay(connection)
                finally:
                    self.up = False
                    await _part(connection)
            except (PandoraDbError, asyncpg.PostgresError, *LOST) as error:
                if not failures:
                    log.info("not listening for notifications, polling: %s", error)
            except Exception:  # one attempt may fail, not all that follow
                log.exception("listening failed")
            failures += 1
            self._on_news(None)  # the poll is another one now
            pause = min(_SOON * 2 ** min(failures - 1, 10), _LATER)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - jitter

    async def _open(self) -> Connection:
        """Connect. Cut off as it begins, asyncpg would leave an error behind that nobody reads."""
        opening = asyncio.ensure_future(self._connect())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            try:
                await asyncio.wait([opening], timeout=_PATIENCE)
            finally:
                opening.cancel()
                opening.add_done_callback(_drop)
            raise

    async def _listen(self, connection: Connection) -> None:
        self._gone.clear()
        connection.add_termination_listener(lambda _: self._gone.set())
        await connection.add_listener(self._channel, self._hear)
        self.up = True
        self._on_news(None)  # what was committed before it listened was told to others

    async def _stay(self, connection: Connection) -> None:
        while not self._gone.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_CHECK):
                    await self._gone.wait()
                return
            await connection.execute(self._ping, timeout=_CHECK)

    def _hear(self, *heard: object) -> None:
        *_, payload = heard
        sender, stages = read(str(payload))
        if sender != self._deaf_to:
            self._on_news(stages)
            self._on_news(None)  # and whatever else it was


def _drop(opening: asyncio.Future[Connection]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().terminate()


async def _part(connection: Connection) -> None:
    try:
        await connection.close(timeout=_PATIENCE)
    except (*LOST, asyncpg.PostgresError):
        connection.terminate()
    except BaseException:
        connection.terminate()
        raise
