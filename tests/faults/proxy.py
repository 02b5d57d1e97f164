"""A TCP proxy in front of a PostgreSQL server that fails where it is told to."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from typing import Self

UP, DOWN = "to the server", "to the library"
_NEVER = 1 << 60


class Ending(StrEnum):
    FIN = "FIN"
    RST = "RST"
    SILENCE = "silence"


@dataclass(slots=True)
class Plan:
    """After `after` bytes in one direction the connection ends; so do the next `times` - 1."""

    direction: str = UP
    after: int = _NEVER
    ending: Ending = Ending.FIN
    times: int = 1


class Proxy:
    """`proxy.dsn` leads through it; `arm` says where it fails, `heal` that it works again.

    `delay` is the seconds that everything takes on its way, once in each direction.
    """

    def __init__(self, dsn: str) -> None:
        parts = conninfo_to_dict(dsn)
        self._host = str(parts["host"])
        self._port = int(parts.get("port") or 5432)
        self._dsn = dsn
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._plan = Plan()
        self._then: Plan | None = None
        self._last = False
        self._silent: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._left = 0
        self.refusing = False
        self.delay = 0.0
        self.seen = {UP: 0, DOWN: 0}
        self.cuts = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.dsn = make_conninfo(self._dsn, host="127.0.0.1", port=port, sslmode="disable")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for pair in list(self._pairs):
            self._end(pair, Ending.RST)
        for pump in self._pumps:
            pump.cancel()
        if self._pumps:
            await asyncio.wait(self._pumps)

    def arm(self, plan: Plan | None = None, *, then: Plan | None = None) -> None:
        """Count from here, and fail by `plan`, next by `then`; without one only count.

        After `then` no connection is taken for 0.3 s.
        """
        self._plan = plan or Plan()
        self._then = then
        self._left = self._plan.times
        self.cuts = 0
        self.seen = {UP: 0, DOWN: 0}

    def release(self) -> None:
        """Let new connections pass; those that fell silent stay so."""
        self._left = 0

    def heal(self) -> None:
        """Fail no more; connections that fell silent end."""
        self.arm()
        self.refusing = False
        for pair in list(self._silent):
            self._end(pair, Ending.RST)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            if self._host.startswith("/"):
                path = f"{self._host}/.s.PGSQL.{self._port}"
                up_reader, up_writer = await asyncio.open_unix_connection(path)
            else:
                up_reader, up_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, up_writer)
        self._pairs.add(pair)
        for source, sink, direction in ((reader, up_writer, UP), (up_reader, writer, DOWN)):
            pump = asyncio.create_task(self._pump(source, sink, direction, pair))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        direction: str,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                plan = self._plan
                if not self._left or plan.direction != direction:
                    self.seen[direction] += len(data)
                    sink.write(data)
                    continue
                room = plan.after - self.seen[direction]
                self.seen[direction] += len(data)
                if len(data) <= room:
                    sink.write(data)
                    continue
                sink.write(data[:room])
                if plan.ending is Ending.SILENCE:
                    self.cuts += 1
                    self._silent.add(pair)
                    await self._be_silent(source)
                    return
                self.cuts += 1
                self._left -= 1
                self.seen = {UP: 0, DOWN: 0}
                self._next()
                with suppress(OSError):
                    await asyncio.wait_for(sink.drain(), 1.0)
                await asyncio.sleep(0)
                self._end(pair, plan.ending)
                return
        self._end(pair, Ending.FIN)

    def _next(self) -> None:
        if self._then is not None:
            self._plan, self._then, self._left = self._then, None, 1
            self._last = True
        elif self._last:
            self._last, self.refusing = False, True
            asyncio.get_running_loop().call_later(0.3, self._accept_again)

    def _accept_again(self) -> None:
        self.refusing = False

    async def _be_silent(self, source: asyncio.StreamReader) -> None:
        while await source.read(65536):
            pass

    def _end(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter], ending: Ending) -> None:
        self._pairs.discard(pair)
        self._silent.discard(pair)
        for writer in pair:
            if ending is Ending.RST:
                stream = writer.get_extra_info("socket")
                if stream is not None and stream.family != socket.AF_UNIX:
                    linger = struct.pack("ii", 1, 0)
                    with suppress(OSError):
                        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()
