"""The material: clips, an intro and subtitles, made by ffmpeg on the spot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from examples.encode_queue.ffmpeg import run_ffmpeg


@dataclass(frozen=True, slots=True)
class Size:
    """Picture size in pixels and length in seconds of the clips."""

    width: int
    height: int
    seconds: float


FULL = Size(1280, 720, 6.0)
QUICK = Size(320, 180, 4.0)

# The costly pictures are drawn small and scaled up.
PICTURES = {
    "test-card": "testsrc2=size={w}x{h}:rate=30",
    "mandelbrot": "mandelbrot=size=640x360:rate=30,scale={w}:{h}",
    "game-of-life": (
        "life=size=320x180:rate=30:mold=10:ratio=0.2:random_seed=7"
        ":death_color=0xC83232:life_color=0x40ff80,scale={w}:{h}:flags=neighbor"
    ),
    "sierpinski": "sierpinski=size={w}x{h}:rate=30:seed=7",
    "gradients": "gradients=size={w}x{h}:rate=30:speed=0.03:seed=7",
}
INTRO = "smptebars=size={w}x{h}:rate=30"


@dataclass(frozen=True, slots=True)
class _Clip:
    path: Path
    picture: str
    seconds: float
    tone: int


async def make_material(
    folder: Path, size: Size, say: Callable[[str], None], *, only_intro: bool = False
) -> tuple[list[Path], Path]:
    """Make what is missing in `folder`, two at a time; returns the clips and the intro."""
    folder = folder / f"{size.width}x{size.height}"
    folder.mkdir(parents=True, exist_ok=True)
    clips = [
        _Clip(folder / f"{name}.mkv", picture, size.seconds, 220 + 110 * number)
        for number, (name, picture) in enumerate(PICTURES.items())
        if not only_intro
    ]
    intro = _Clip(folder / "intro.mp4", INTRO, min(1.5, size.seconds / 2), 880)
    missing = [clip for clip in (*clips, intro) if not clip.path.exists()]
    if missing:
        say("making clips with ffmpeg …")
    turn = asyncio.Semaphore(2)
    async with asyncio.TaskGroup() as group:
        for clip in missing:
            group.create_task(_make(clip, size, turn))
    return [clip.path for clip in clips], intro.path


async def _make(clip: _Clip, size: Size, turn: asyncio.Semaphore) -> None:
    # No fixed name: this program may run several times at once.
    part = clip.path.with_name(f"part-{token_hex(4)}-{clip.path.name}")
    async with turn:
        try:
            await run_ffmpeg(
                *("-f", "lavfi", "-i", clip.picture.format(w=size.width, h=size.height)),
                *("-f", "lavfi", "-i", f"sine=frequency={clip.tone}"),
                *("-t", str(clip.seconds), "-pix_fmt", "yuv420p"),
                *("-c:v", "libx264", "-preset", "ultrafast", "-crf", "14", "-g", "30"),
                *("-c:a", "aac", str(part)),
            )
            part.replace(clip.path)
        finally:
            part.unlink(missing_ok=True)


def write_subtitles(path: Path, lines: list[str], *, start: float, each: float) -> None:
    """Write an SRT file that shows `lines` one after another from `start`, `each` seconds long."""
    blocks: list[str] = []
    for number, line in enumerate(lines):
        begin, end = start + number * each, start + (number + 1) * each
        blocks.append(f"{number + 1}\n{_clock(begin)} --> {_clock(end)}\n{line}\n")
    path.write_text("\n".join(blocks), encoding="utf-8")


def _clock(seconds: float) -> str:
    whole, thousandths = divmod(round(seconds * 1000), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{thousandths:03}"
