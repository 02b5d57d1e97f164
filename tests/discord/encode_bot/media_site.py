"""A site with videos, as the bot downloads them: ranges, versions, cuts, and a count of it all."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from aiohttp import web

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 16 * 1024


@dataclass(slots=True)
class Item:
    """A file, and how it was asked for.

    Attributes:
        body: its bytes.
        version: its ETag.
        cut_after: so many bytes into the next answer, the connection is cut.
        busy: so many requests are answered with 503 first.
        ranges: the Range header of each request, None for the whole.
        sent: bytes in all.
    """

    body: bytes
    version: str = '"1"'
    cut_after: int | None = None
    busy: int = 0
    ranges: list[str | None] = field(default_factory=list[str | None])
    sent: int = 0


class MediaSite:
    """Serves `items` by name on 127.0.0.1."""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.base = ""

    def add(self, name: str, body: bytes) -> str:
        """Offer a file; its link."""
        self.items[name] = Item(body)
        return f"{self.base}/{name}"

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/{name}", self._send)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port: int = self._runner.addresses[0][1]
        self.base = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _send(self, request: web.Request) -> web.StreamResponse:
        item = self.items.get(request.match_info["name"])
        if item is None:
            raise web.HTTPNotFound
        wanted = request.headers.get("Range")
        item.ranges.append(wanted)
        if item.busy:
            item.busy -= 1
            raise web.HTTPServiceUnavailable
        start = 0
        response = web.StreamResponse(headers={"ETag": item.version})
        if wanted and request.headers.get("If-Range") in (None, item.version):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(item.body):
                raise web.HTTPRequestRangeNotSatisfiable
            response.set_status(206)
            size = len(item.body)
            response.headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        response.content_length = len(item.body) - start
        await response.prepare(request)
        with suppress(ConnectionError):  # the client may hang up
            while chunk := item.body[start : start + _CHUNK]:
                if item.cut_after is not None:
                    chunk = chunk[: item.cut_after]
                    item.cut_after -= len(chunk)
                await response.write(chunk)
                item.sent += len(chunk)
                start += len(chunk)
                if item.cut_after == 0:
                    item.cut_after = None
                    assert request.transport is not None
                    request.transport.close()
                    return response
            await response.write_eof()
        return response
