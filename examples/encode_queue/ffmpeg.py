"""ffmpeg by the library's `run_process`: it ends with the job that runs it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped]

from examples.encode_queue.failure import StepError
from pandora_db import ExecutionFailed
from pandora_db.runtime import ProcessResult, run_process


@dataclass(frozen=True, slots=True)
class Media:
    """What a file holds; `seconds` is 0 when the container does not say."""

    seconds: float
    width: int
    height: int
    has_audio: bool


async def check_ffmpeg() -> None:
    """See that there is an ffmpeg that runs.

    Raises:
        StepError: there is none.
    """
    try:
        await run_ffmpeg("-version")
    except ExecutionFailed as error:
        raise StepError(f"ffmpeg does not run here: {error}\n{_HINT}") from error


async def run_ffmpeg(*arguments: str) -> None:
    """Run ffmpeg to its end.

    Raises:
        ExecutionFailed: it ended with another code than 0; the message has the end of its stderr.
        StepError: there is no ffmpeg.
    """
    await _run("-v", "error", "-y", *arguments)


async def probe(path: Path) -> Media:
    """What ffmpeg finds in `path`.

    Raises:
        StepError: there is no video in it.
    """
    # ffprobe is not in the wheel; `ffmpeg -i` without an output prints the same facts and fails.
    lines: list[str] = []
    await _run("-i", str(path), lines=lines)
    text = "\n".join(lines)
    video = re.search(r"Stream #.*?Video:.*?\b(\d{2,5})x(\d{2,5})\b", text)
    if video is None:
        if "Stream #" in text:
            raise StepError("no video in it, only other streams")
        last = lines[-1] if lines else "ffmpeg said nothing"
        raise StepError(f"no video in it: {last[-200:]}")
    length = re.search(r"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)", text)
    hours, minutes, rest = (float(part) for part in length.groups()) if length else (0.0, 0.0, 0.0)
    return Media(
        seconds=hours * 3600 + minutes * 60 + rest,
        width=int(video[1]),
        height=int(video[2]),
        has_audio=re.search(r"Stream #.*?Audio:", text) is not None,
    )


_HINT = "pip install imageio-ffmpeg, or set IMAGEIO_FFMPEG_EXE to the path of an ffmpeg"


async def _run(*arguments: str, lines: list[str] | None = None) -> ProcessResult:
    """Run it; with `lines`, gather there what it says, and let it fail."""
    try:
        program: str = get_ffmpeg_exe()
    except RuntimeError as error:
        raise StepError(f"no ffmpeg was found: {_HINT}") from error
    return await run_process(
        program,
        *("-hide_banner", "-nostdin", "-nostats", *arguments),
        on_error_line=None if lines is None else lines.append,
        check=lines is None,
    )
