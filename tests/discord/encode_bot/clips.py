"""Short videos, made on the spot, and what is in a file."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from imageio_ffmpeg import get_ffmpeg_exe

if TYPE_CHECKING:
    from pathlib import Path

FFMPEG: str = get_ffmpeg_exe()
RATE = 30
SECONDS = 4  # of the clip in `Scene`


def make_clip(path: Path, seconds: float, *, sound: bool = True) -> Path:
    """A moving picture of 160 x 90, with a tone unless it shall be silent."""
    picture = ("-f", "lavfi", "-i", f"testsrc2=size=160x90:rate={RATE}")
    tone = ("-f", "lavfi", "-i", "sine=frequency=330") if sound else ()
    coding = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac")
    subprocess.run(
        [FFMPEG, "-v", "error", "-y", *picture, *tone, "-t", str(seconds), *coding, str(path)],
        check=True,
    )
    return path


def count_frames(path: Path) -> int:
    """How many pictures can be decoded from the file."""
    done = subprocess.run(
        [FFMPEG, "-v", "error", "-i", str(path), "-map", "0:v", "-f", "framemd5", "-"],
        check=True,
        capture_output=True,
        text=True,
    )
    return sum(not line.startswith("#") for line in done.stdout.splitlines())


def streams(path: Path) -> tuple[float, list[str]]:
    """How long the file is, in seconds, and the kinds of its streams."""
    done = subprocess.run(
        [FFMPEG, "-hide_banner", "-i", str(path)], check=False, capture_output=True, text=True
    )
    length = re.search(r"Duration: (\d+):(\d+):(\d+\.\d+)", done.stderr)
    assert length is not None, done.stderr
    hours, minutes, seconds = map(float, length.groups())
    kinds = re.findall(r"Stream #0:\d+.*?: (Video|Audio|Subtitle):", done.stderr)
    return hours * 3600 + minutes * 60 + seconds, kinds
