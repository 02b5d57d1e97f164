"""A job that walks through folders, dispatched by its name.

Run it with `python -m examples.indexer [URL]`; without a URL it works in memory.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel

from examples import url_argument
from pandora_db import JobDb
from pandora_db.runtime import (
    IndexedOutput,
    JobContext,
    JobManager,
    Progress,
    Registry,
    run_blocking,
)

registry = Registry()


class IndexMode(StrEnum):
    """How deep to look."""

    METADATA = "metadata"  # sizes
    CONTENT = "content"  # and whether the same content was there before


@registry.job(name="indexer", description="Count the files below a folder")
class Indexer(BaseModel):
    """Goes through the folders one by one; those that are left are its state."""

    location: Path
    index_mode: IndexMode = IndexMode.METADATA
    left: list[Path] | None = None
    digests: set[str] = set()
    total_files: int = 0
    total_dirs: int = 0
    total_bytes: int = 0

    async def run(self, ctx: JobContext) -> IndexedOutput:
        if self.left is None:
            self.left = [self.location]
        while self.left:
            await ctx.check_interrupt()
            folders, files = await run_blocking(look, self.left[-1])
            if self.index_mode is IndexMode.CONTENT:
                self.digests.update(await run_blocking(read, files))
            self.left[-1:] = folders
            self.total_dirs += 1
            self.total_files += len(files)
            self.total_bytes += sum(files.values())
            ctx.progress(Progress.structured({"folders_left": len(self.left)}))
            await ctx.checkpoint()
        if self.index_mode is IndexMode.CONTENT:
            ctx.metric("duplicates", self.total_files - len(self.digests))
        return IndexedOutput(
            total_files=self.total_files, total_dirs=self.total_dirs, total_bytes=self.total_bytes
        )


def look(folder: Path) -> tuple[list[Path], dict[Path, int]]:
    """The folders in a folder, and its files with their sizes."""
    entries = sorted(folder.iterdir())
    files = {entry: entry.stat().st_size for entry in entries if entry.is_file()}
    return [entry for entry in entries if entry.is_dir()], files


def read(files: Iterable[Path]) -> list[str]:
    """A digest of the content of each file."""
    digests: list[str] = []
    for path in files:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return digests


async def main(url: str) -> None:
    """Dispatch by name, as an API would, and print what was found."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a/1.mkv", "a/b/2.mkv", "c/3.mkv"):
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x" * 100)
        async with JobDb.open(url) as db:
            await db.init_schema()
            async with JobManager(db, registry, poll=0.1) as jobs:
                params = {"location": folder, "index_mode": "content"}
                handle = await jobs.dispatch_by_name("indexer", params)
                output = await handle.result(30)
                info = await jobs.get_job_info(handle.id)
            assert info is not None
            print(f"{info.metrics['duplicates']:g} of the files are duplicates")
            print(f"{handle} is {await handle.status()}: {output}")


if __name__ == "__main__":
    asyncio.run(main(url_argument(__doc__) or ":memory:"))
