"""The heartbeat's way to the server: a connection and an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, cast

import asyncpg

from pandora_db.drivers.base import Args, Row
from pandora_db.drivers.postgres.errors import LOST, translate
from pandora_db.errors import ConnectionFailed
from pandora_db.sqlfiles import Catalogue

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class PostgresPulse:
    """Runs queries one at a time; a connection that was lost is opened anew."""

    def __init__(
        self, connect: Callable[[], Awaitable[Connection]], queries: Catalogue, target: str
    ) -> None:
        self._connect = connect
        self._queries = queries
        self._target = target
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connection: Connection | None = None

    def run(self, name: str, args: Args, seconds: float) -> Sequence[Row]:
        """See `Pulse.run`; a connection that gives no answer in time may only be slow."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        query = self._queries.get(name)
        values = query.statements[0].bind(args)
        return self._loop.run_until_complete(self._run(query.text, values, seconds))

    async def _run(self, text: str, values: Sequence[object], seconds: float) -> Sequence[Row]:
        if self._connection is None or self._connection.is_closed():
            try:
                async with asyncio.timeout(seconds):
                    self._connection = await self._connect()
            except TimeoutError as error:
                raise translate(error, self._target) from error
        try:
            async with asyncio.timeout(seconds):  # asyncpg's own leaves out what it waits for first
                return cast("list[Row]", await self._connection.fetch(text, *values))
        except TimeoutError as error:
            raise ConnectionFailed(
                f"no answer within {seconds:g} s", target=self._target
            ) from error
        except LOST as error:
            self._connection.terminate()
            self._connection = None
            raise translate(error, self._target) from error
        except asyncpg.PostgresError as error:
            raise translate(error, self._target) from error

    def close(self) -> None:
        """See `Pulse.close`."""
        if self._loop is None:
            return
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
        self._loop.run_until_complete(asyncio.sleep(0))  # the transport's last word
        self._loop.close()
        self._loop = None
