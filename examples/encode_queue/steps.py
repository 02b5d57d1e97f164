"""The work itself: download, encode, upload. Each step leaves its file complete or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from secrets import token_hex

import aiohttp

from examples.encode_queue.clips import write_subtitles
from examples.encode_queue.facts import PRESET_NAMES, Workspace, json_of, local_file, publish
from examples.encode_queue.failure import StepError
from examples.encode_queue.ffmpeg import probe, run_ffmpeg
from examples.encode_queue.media_server import MediaServer
from examples.encode_queue.presets import CONCAT, choose_encoder, encode_arguments
from pandora_db import JobDb, JobRow, Preset, Stage

# Says how far a step is, 0 to 1, and in words.
Report = Callable[[float, str], Awaitable[None]]
_CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True)
class Tools:
    """What the steps work with."""

    db: JobDb
    http: aiohttp.ClientSession
    server: MediaServer
    intro: Path
    quick: bool


async def download(tools: Tools, job: JobRow, report: Report) -> None:
    """Fetch the job's link into its folder."""
    space = Workspace.of(job)
    space.folder.mkdir(parents=True, exist_ok=True)
    file = local_file(job)
    link = tools.server.share(file) if file else job.link
    part = space.folder / "source.part"
    async with tools.http.get(link) as response:
        if response.status != HTTPStatus.OK:
            raise StepError(f"{response.status} {response.reason}, {response.url.path}")
        total, got = response.content_length or 0, 0
        with part.open("wb") as target:
            async for chunk in response.content.iter_chunked(_CHUNK):
                target.write(chunk)
                got += len(chunk)
                await report(got / total if total else 0.5, f"downloading, {got / 1e6:.1f} MB")
    if got == 0:
        raise StepError(f"{response.url} is empty")
    await publish(part, space.source)
    await tools.db.update_job(job.job_id, progress_data={"source_bytes": got})


async def encode(tools: Tools, job: JobRow, report: Report) -> None:
    """Encode the downloaded file with the job's preset."""
    space, preset = Workspace.of(job), job.to_job_metadata().preset
    media = await probe(space.source)
    encoder = await choose_encoder(preset, quick=tools.quick)
    subtitles, seconds = space.folder / "subtitles.srt", media.seconds
    if preset in CONCAT:
        intro_seconds = (await probe(tools.intro)).seconds
        seconds += intro_seconds
        if preset is Preset.CONCAT_SOME_SUBS:
            lines = [f"for {job.author}", f"job {job.job_id}", "encoded with pandora_db"]
            each = min(2.0, media.seconds / len(lines))
            write_subtitles(subtitles, lines, start=intro_seconds, each=each)
    # The part has no fixed name: after a kill -9 an old ffmpeg may still be writing to its own.
    part = space.folder / f"encoded-{token_hex(4)}.part"
    arguments = encode_arguments(
        preset, encoder, space.source, media, part, intro=tools.intro, subtitles=subtitles
    )

    async def percent(fraction: float) -> None:
        await report(fraction, f"encoding with {encoder[0]}, {fraction:.0%}")

    try:
        await run_ffmpeg(*arguments, seconds=seconds, report=percent)
        await publish(part, space.encoded)
    finally:
        part.unlink(missing_ok=True)
    facts = json_of(job.progress_data) | {"encoder": encoder[0]}
    await tools.db.update_job(job.job_id, progress_data=facts)


async def upload(tools: Tools, job: JobRow, report: Report) -> None:
    """PUT the encoded file to the server and note where it is."""
    space = Workspace.of(job)
    size = space.encoded.stat().st_size
    name = f"{job.author}-{PRESET_NAMES[job.to_job_metadata().preset].replace(' ', '')}.mp4"
    url = f"{tools.server.base}/uploads/{job.job_id}/{name}"

    async def body() -> AsyncIterator[bytes]:
        sent = 0
        with space.encoded.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
                sent += len(chunk)
                await report(sent / size, f"uploading, {sent / 1e6:.1f} of {size / 1e6:.1f} MB")

    headers = {"Content-Length": str(size)}
    async with tools.http.put(url, data=body(), headers=headers) as response:
        if response.status != HTTPStatus.CREATED:
            raise StepError(f"{response.status} {response.reason}, PUT {response.url.path}")
        stored = await response.json()
    if stored["bytes"] != size:
        raise StepError(f"the server stored {stored['bytes']} of {size} bytes")
    facts = json_of(job.progress_data) | {"bytes": size, "url": url}
    await tools.db.update_job(
        job.job_id, output=facts, output_kind="video", output_file=stored["path"]
    )


@dataclass(frozen=True, slots=True)
class Step:
    """One stage of work: the stages before, during and after it, and its share of a whole job."""

    waiting: Stage
    working: Stage
    after: Stage
    run: Callable[[Tools, JobRow, Report], Awaitable[None]]
    begins: float
    ends: float


STEPS = (
    Step(Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED, download, 0.0, 0.2),
    Step(Stage.DOWNLOADED, Stage.ENCODING, Stage.ENCODED, encode, 0.2, 0.9),
    Step(Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED, upload, 0.9, 1.0),
)
