"""A small HTTP server on loopback: offers the clips, and keeps what is uploaded."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from aiohttp import web

_CHUNK = 64 * 1024
_SERVED = re.compile(r"server: job (\d+) downloads ")
log = logging.getLogger(__name__)


class MediaServer:
    """Serves shared files at /clips/… and stores PUT bodies below `uploads`.

    `rate` brakes each transfer (bytes per second, 0 for none), as a site far away would.
    """

    def __init__(self, uploads: Path, *, rate: int = 0) -> None:
        self._uploads = uploads
        self._rate = rate
        self._shared: dict[str, Path] = {}
        self.base = ""

    def share(self, path: Path, job_id: int) -> str:
        """Offer `path` to a job and return its URL; the same path always has the same URL."""
        name = next((name for name, known in self._shared.items() if known == path), None)
        if name is None:
            name = (
                path.name if path.name not in self._shared else f"{len(self._shared)}-{path.name}"
            )
            self._shared[name] = path
        return f"{self.base}/clips/{job_id}/{quote(name)}"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=0)
        app.router.add_get(r"/clips/{job:\d+}/{name}", self._send)
        app.router.add_put(r"/uploads/{job:\d+}/{name:[\w+-]+\.mp4}", self._receive)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
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
        path = self._shared.get(request.match_info["name"])
        if path is None or not path.is_file():
            raise web.HTTPNotFound
        response = web.StreamResponse()
        response.content_length = path.stat().st_size
        log.info("server: job %s downloads %s", request.match_info["job"], path.name)
        await response.prepare(request)
        with path.open("rb") as file, suppress(ConnectionResetError):  # the client may hang up
            while chunk := file.read(_CHUNK):
                await response.write(chunk)
                await self._brake(len(chunk))
            await response.write_eof()
        return response

    async def _receive(self, request: web.Request) -> web.Response:
        target = self._uploads / request.match_info["job"] / request.match_info["name"]
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        received = 0
        try:
            with part.open("wb") as file:
                async for chunk in request.content.iter_chunked(_CHUNK):
                    received += len(chunk)
                    file.write(chunk)
                    await self._brake(len(chunk))
                file.flush()
                os.fsync(file.fileno())
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
        return web.json_response({"path": str(target), "bytes": received}, status=201)

    async def _brake(self, sent: int) -> None:
        if self._rate:
            await asyncio.sleep(sent / self._rate)


def count_downloads(journal: Path) -> Counter[int]:
    """How often each job was sent its video, by the server's lines in the log file `journal`."""
    text = journal.read_text(encoding="utf-8") if journal.exists() else ""
    return Counter(int(job_id) for job_id in _SERVED.findall(text))
