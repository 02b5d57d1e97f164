"""ffmpeg by the runtime's `run_process`: it ends with its job, and says what went wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

from imageio_ffmpeg import get_ffmpeg_exe  # type: ignore[import-untyped]

from examples.encode_queue.failure import StepError
from pandora_db.runtime import run_process

_SAID = 12  # lines


async def run_ffmpeg(
    *arguments: str, report: Callable[[float], Awaitable[None]] | None = None
) -> int:
    """Run ffmpeg to its end.

    Args:
        *arguments: inputs and outputs.
        report: is told how many seconds of the output are done; what it raises ends ffmpeg.

    Returns:
        How many pictures it wrote.

    Raises:
        StepError: it ended with another code than 0; the message is what it said.
    """
    said: deque[str] = deque(maxlen=_SAID)
    frames = 0

    async def read(line: str) -> None:
        nonlocal frames
        name, _, value = line.partition("=")
        if name == "frame" and value.strip().isdigit():
            frames = int(value)
        elif name == "out_time_us" and value.isdigit() and report is not None:
            await report(int(value) / 1e6)

    result = await run_process(
        get_ffmpeg_exe(), "-hide_banner", "-nostdin", "-nostats", "-v", "error", "-y",
        "-progress", "pipe:1", *arguments,
        on_line=read, on_error_line=said.append, check=False,
    )  # fmt: skip
    if result.code != 0:
        words = "\n".join(said).strip() or "it said nothing"
        raise StepError(f"ffmpeg ended with code {result.code}: {words}")
    return frames
