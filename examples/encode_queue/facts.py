"""The facts of this example that travel in a job's JSON columns, and the files in its folder."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pandora_db import JobRow, Preset, Stage

PRESET_NAMES = {
    Preset.PSEUDO_LOSSLESS: "pseudo-lossless",
    Preset.STANDARD: "standard",
    Preset.GPU: "gpu",
    Preset.CONCAT_DEFAULT: "concat",
    Preset.CONCAT_SOME_SUBS: "concat + subs",
}


def json_of(text: str | None) -> dict[str, Any]:
    """A JSON column's object; empty when the column is."""
    value = json.loads(text) if text else {}
    return value if isinstance(value, dict) else {}


def title(job: JobRow) -> str:
    """The name of the video that was asked for."""
    return str(json_of(job.config).get("title") or job.link)


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

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def reached(self) -> Stage:
        """The waiting stage that the files here allow."""
        if self.encoded.exists():
            return Stage.ENCODED
        return Stage.DOWNLOADED if self.source.exists() else Stage.QUEUED


async def publish(part: Path, final: Path) -> None:
    """Give a complete file its final name, once its bytes are on disk."""

    def to_disk() -> None:
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(final)

    await asyncio.to_thread(to_disk)
