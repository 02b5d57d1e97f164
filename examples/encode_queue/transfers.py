"""The stages that this process works on itself: download and upload."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http import HTTPStatus

import aiohttp

from examples.encode_queue.facts import (
    PRESET_NAMES,
    Workspace,
    json_of,
    local_file,
    preset_of,
    publish,
)
from examples.encode_queue.media_server import MediaServer
from pandora_db import Stage
from pandora_db.runtime import Done, Fail, JobContext, Pipeline, Progress

_CHUNK = 256 * 1024


def transfers(http: aiohttp.ClientSession, server: MediaServer, *, hands: int) -> Pipeline:
    """A pipeline whose handlers take `hands` jobs at once, each."""
    pipeline = Pipeline()
    _add_download(pipeline, http, server, hands)
    _add_upload(pipeline, http, server, hands)
    return pipeline


def _add_download(
    pipeline: Pipeline, http: aiohttp.ClientSession, server: MediaServer, hands: int
) -> None:
    @pipeline.stage(
        Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED,
        concurrency=hands, retry_in=1.0, progress_every=0.25,
    )  # fmt: skip
    async def download(ctx: JobContext) -> dict[str, int] | Fail:
        """Fetch the job's link into its folder."""
        space = Workspace.of(ctx.job)
        space.folder.mkdir(parents=True, exist_ok=True)
        file = local_file(ctx.job)
        link = server.share(file, ctx.job_id) if file else ctx.job.link
        part = space.folder / "source.part"
        async with http.get(link) as response:
            if response.status != HTTPStatus.OK:
                reason = f"{response.status} {response.reason}, {response.url.path}"
                return Fail(reason, final=response.status < 500)  # noqa: PLR2004
            total, got = response.content_length, 0
            with part.open("wb") as target:
                async for chunk in response.content.iter_chunked(_CHUNK):
                    await ctx.check_interrupt()
                    target.write(chunk)
                    got += len(chunk)
                    ctx.progress(Progress.bytes(got, total, f"downloading, {got / 1e6:.1f} MB"))
        if got == 0:
            return Fail(f"{response.url} is empty", final=True)
        await publish(part, space.source)
        return {"source_bytes": got}


def _add_upload(
    pipeline: Pipeline, http: aiohttp.ClientSession, server: MediaServer, hands: int
) -> None:
    @pipeline.stage(
        Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED,
        concurrency=hands, retry_in=1.0, progress_every=0.25,
    )  # fmt: skip
    async def upload(ctx: JobContext) -> Done | Fail:
        """PUT the encoded file to the server; where it is then is the job's result."""
        encoded = Workspace.of(ctx.job).encoded
        if not encoded.exists():
            return Fail(f"uploading: {encoded.name} is gone from the job's folder", final=True)
        size = encoded.stat().st_size
        name = f"{ctx.job.author}-{PRESET_NAMES[preset_of(ctx.job)].replace(' ', '')}.mp4"
        url = f"{server.base}/uploads/{ctx.job_id}/{name}"

        async def body() -> AsyncIterator[bytes]:
            sent = 0
            with encoded.open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
                    sent += len(chunk)
                    ctx.progress(Progress.bytes(sent, size, f"uploading, {sent / 1e6:.1f} MB"))

        async with http.put(url, data=body(), headers={"Content-Length": str(size)}) as response:
            if response.status != HTTPStatus.CREATED:
                return Fail(f"uploading: {response.status} {response.reason}")
            stored = await response.json()
        if stored["bytes"] != size:
            return Fail(f"uploading: the server stored {stored['bytes']} of {size} bytes")
        output = json_of(ctx.job.output) | {"bytes": size, "url": url}
        return Done(output, kind="video", file=stored["path"])
