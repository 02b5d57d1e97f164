"""A pooler in transaction mode, as strict as one can be: each transaction is on another server.

It answers the start of a client by itself and keeps nothing of it: what belongs to a session - a
LISTEN, a setting, a named statement - is on a server connection that the next transaction of the
client does not get.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from psycopg.conninfo import conninfo_to_dict, make_conninfo

if TYPE_CHECKING:
    from typing import Self

_SSL, _GSS, _CANCEL = 80877103, 80877104, 80877102
_HEAD = 5
_READY = b"Z"
_ENDS = (b"S", b"Q")  # Sync, Query: the server answers each with ReadyForQuery

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pooler:
    """`pooler.dsn` leads through it; `begun` has the first message of each transaction."""

    def __init__(self, dsn: str, servers: int = 3) -> None:
        self._dsn = dsn
        self._parts = conninfo_to_dict(dsn)
        self._count = servers
        self._free: deque[_Streams | None] = deque()
        self._given = asyncio.Condition()
        self._greeting = b""
        self._clients: set[asyncio.Task[None]] = set()
        self.begun: list[bytes] = []

    async def __aenter__(self) -> Self:
        for _ in range(self._count):
            self._free.append(await self._connect())
        self._door = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port = self._door.sockets[0].getsockname()[1]
        self.dsn = make_conninfo(self._dsn, host="127.0.0.1", port=port, sslmode="disable")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._door.close()
        if self._clients:  # their handles are closed
            await asyncio.wait(self._clients)
        for server in self._free:
            if server is not None:
                await _close(server[1])

    async def _connect(self) -> _Streams:
        host, port = str(self._parts["host"]), int(self._parts.get("port") or 5432)
        if host.startswith("/"):
            streams = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            streams = await asyncio.open_connection(host, port)
        try:
            self._greeting = await self._start(*streams)
        except BaseException:
            await _close(streams[1])
            raise
        return streams

    async def _start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        names = {"user": str(self._parts["user"]), "database": str(self._parts["dbname"])}
        body = b"".join(f"{name}\0{value}\0".encode() for name, value in names.items()) + b"\0"
        writer.write(struct.pack("!ii", len(body) + 8, 196608) + body)
        greeting = b""
        while True:
            kind, message = await _message(reader)
            assert kind != b"E", message
            greeting += message
            if kind == _READY:
                return greeting

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.ensure_future(self._serve(reader, writer))
        self._clients.add(client)
        client.add_done_callback(self._clients.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._greet(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):  # it has gone
            pass
        finally:
            await _close(writer)

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (length,) = struct.unpack("!i", await reader.readexactly(4))
            body = await reader.readexactly(length - 4)
            (code,) = struct.unpack("!i", body[:4])
            if code not in (_SSL, _GSS):
                break
            writer.write(b"N")
        if code != _CANCEL:
            assert b"statement_timeout" not in body, "a start-up setting"
            writer.write(self._greeting)
            await self._transactions(reader, writer)

    async def _transactions(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        asked = asyncio.create_task(_message(reader))
        try:
            while True:
                await asyncio.wait([asked])
                if asked.result()[0] == b"X":
                    return
                self.begun.append(asked.result()[1])
                async with self._given:
                    await self._given.wait_for(lambda: self._free)
                    server = self._free.popleft()  # idle for longest: never the last one
                try:
                    if server is None:
                        server = await self._connect()
                    asked = await _transaction(asked, reader, writer, server)
                except BaseException:
                    if server is not None:  # in the middle of something
                        await _close(server[1])
                        server = None
                    raise
                finally:
                    async with self._given:
                        self._free.append(server)
                        self._given.notify()
        finally:
            asked.cancel()


async def _transaction(
    asked: asyncio.Task[tuple[bytes, bytes]],
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    server: _Streams,
) -> asyncio.Task[tuple[bytes, bytes]]:
    """From the first message of a client to where its server is idle again; the message after."""
    answers, requests = server
    answered = asyncio.create_task(_message(answers))
    open_ends = 0
    try:
        while True:
            await asyncio.wait([asked, answered], return_when=asyncio.FIRST_COMPLETED)
            if asked.done():
                kind, message = asked.result()
                requests.write(message)
                open_ends += kind in _ENDS
                asked = asyncio.create_task(_message(reader))
            if answered.done():
                kind, message = answered.result()
                writer.write(message)
                open_ends -= kind == _READY
                if kind == _READY and not open_ends and message[-1:] == b"I":
                    return asked
                answered = asyncio.create_task(_message(answers))
    except BaseException:
        asked.cancel()
        raise
    finally:
        answered.cancel()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _message(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readexactly(_HEAD)
    (length,) = struct.unpack("!i", head[1:])
    return head[:1], head + await reader.readexactly(length - 4)
