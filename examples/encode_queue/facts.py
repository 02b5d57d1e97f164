"""The facts of this example: settings, what stands in JSON columns, files in a job's folder."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pandora_db import JobRow, Preset, Settings, Stage

# Short, so that a killed worker's job goes on soon; the default is a lease of 30 seconds.
SETTINGS = Settings(lease=5.0, heartbeat=1.0, sweep=1.0, max_attempts=3)

PRESET_NAMES = {
    Preset.PSEUDO_LOSSLESS: "pseudo-lossless",
    Preset.STANDARD: "standard",
    Preset.GPU: "gpu",
    Preset.CONCAT_DEFAULT: "concat",
    Preset.CONCAT_SOME_SUBS: "concat + subs",
}
# What part of a whole job is done when it comes to a stage.
_REACHED = {
    Stage.QUEUED: 0.0,
    Stage.DOWNLOADING: 0.0,
    Stage.DOWNLOADED: 0.2,
    Stage.ENCODING: 0.2,
    Stage.ENCODED: 0.9,
    Stage.UPLOADING: 0.9,
    Stage.UPLOADED: 1.0,
}


def overall(stage: Stage, fraction: float = 0.0) -> float | None:
    """How far a whole job is when `fraction` of the work at `stage` is done; None if it failed."""
    begin = _REACHED.get(stage)
    if begin is None or stage.terminal:
        return begin
    return begin + fraction * (_REACHED[Stage(stage + 1)] - begin)


def json_of(text: str | None) -> dict[str, Any]:
    """A JSON column's object; empty when the column is."""
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


def title(job: JobRow) -> str:
    """The name of the video that was asked for."""
    return str(json_of(job.config).get("title") or job.link)


def preset_of(job: JobRow) -> Preset:
    """The preset that was asked for."""
    return job.to_job_metadata().preset


def local_file(job: JobRow) -> Path | None:
    """The file that our own server offers for this job; None when the link leads elsewhere.

    The server's port changes with every start, so the path counts and the link is for the log.
    """
    path = json_of(job.config).get("file")
    return Path(path) if path else None


@dataclass(frozen=True, slots=True)
class Workspace:
    """A job's folder. A file stands under its final name only when it is complete."""

    folder: Path

    @classmethod
    def of(cls, job: JobRow) -> Workspace:
        """The workspace of `job`."""
        return cls(Path(job.directory))

    @property
    def source(self) -> Path:
        """The downloaded video."""
        return self.folder / "source"

    @property
    def encoded(self) -> Path:
        """What the encoder made of it."""
        return self.folder / "encoded.mp4"

    def segment(self, index: int) -> Path:
        """An encoded segment, from 0."""
        return self.folder / f"segment-{index:05}.mp4"

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


async def publish(part: Path, final: Path) -> None:
    """Give a complete file its final name, once its bytes are on disk."""

    def to_disk() -> None:
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(final)

    await asyncio.to_thread(to_disk)
