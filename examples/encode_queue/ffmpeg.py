"""ffmpeg as a child process: progress while it runs, no orphan, a readable error."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped]

from examples.encode_queue.failure import StepError

_TAIL = 2_000


@dataclass(frozen=True, slots=True)
class Media:
    """What a file holds; `seconds` is 0 when the container does not say."""

    seconds: float
    width: int
    height: int
    has_audio: bool


async def run_ffmpeg(
    *arguments: str,
    seconds: float = 0.0,
    report: Callable[[float], Awaitable[None]] | None = None,
) -> None:
    """Run ffmpeg to its end and `report` the fraction done of `seconds`, 0 to 1.

    When the caller is cancelled, ffmpeg's process group is killed before the cancellation goes on.

    Raises:
        StepError: ffmpeg ended with another code than 0; the message is the end of its stderr.
    """
    process = await _start("-v", "error", "-y", "-progress", "pipe:1", *arguments)
    assert process.stdout is not None
    assert process.stderr is not None
    tail = asyncio.create_task(_tail(process.stderr))
    try:
        async for line in process.stdout:
            key, _, value = line.decode(errors="replace").strip().partition("=")
            if report is not None and key == "out_time_us" and value.isdigit() and seconds > 0:
                await report(min(int(value) / 1e6 / seconds, 1.0))
        code = await process.wait()
        message = await tail
    finally:
        tail.cancel()
        await _end(process)
    if code != 0:
        raise StepError(f"ffmpeg ended with code {code}: {message or 'it said nothing'}")


async def probe(path: Path) -> Media:
    """What ffmpeg finds in `path`.

    Raises:
        StepError: there is no video in it.
    """
    # ffprobe is not in the wheel; `ffmpeg -i` without an output prints the same facts and fails.
    process = await _start("-i", str(path))
    try:
        _, raw = await process.communicate()
    finally:
        await _end(process)
    text = raw.decode(errors="replace")
    video = re.search(r"Stream #.*?Video:.*?\b(\d{2,5})x(\d{2,5})\b", text)
    if video is None:
        if "Stream #" in text:
            raise StepError("no video in it, only other streams")
        last = text.strip().splitlines()[-1] if text.strip() else "ffmpeg said nothing"
        raise StepError(f"no video in it: {last[-200:]}")
    length = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", text)
    hours, minutes, rest = (float(part) for part in length.groups()) if length else (0.0, 0.0, 0.0)
    return Media(
        seconds=hours * 3600 + minutes * 60 + rest,
        width=int(video[1]),
        height=int(video[2]),
        has_audio=re.search(r"Stream #.*?Audio:", text) is not None,
    )


async def _start(*arguments: str) -> asyncio.subprocess.Process:
    try:
        program = get_ffmpeg_exe()
    except RuntimeError as error:
        raise StepError(
            "no ffmpeg was found: pip install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE"
        ) from error
    # A session of its own: Ctrl-C at the terminal reaches us and not ffmpeg, so we decide its end.
    return await asyncio.create_subprocess_exec(
        program,
        "-hide_banner",
        "-nostdin",
        "-nostats",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    try:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    await process.wait()


async def _tail(stream: asyncio.StreamReader) -> str:
    kept = b""
    while chunk := await stream.read(4096):
        kept = (kept + chunk)[-_TAIL:]
    return kept.decode(errors="replace").strip()
