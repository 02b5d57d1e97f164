"""A job that copies files, and goes on where it was interrupted.

Run it with `python -m examples.file_copy [URL]`; without a URL it works in memory.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

from pydantic import BaseModel

from examples import url_argument
from pandora_db import JobDb
from pandora_db.runtime import FileCopyOutput, JobContext, JobManager, Progress, job, run_blocking


@job(name="file_copy", description="Copy files between folders")
class FileCopy(BaseModel):
    """Its fields are the parameters, and the state that a checkpoint keeps."""

    sources: list[Path]
    destination: Path
    done: int = 0
    copied: int = 0
    total_bytes: int = 0

    async def run(self, ctx: JobContext) -> FileCopyOutput:
        ctx.log(f"{len(self.sources)} files, of which {self.done} are done")
        for source in self.sources[self.done :]:
            await ctx.check_interrupt()
            try:
                await run_blocking(shutil.copy2, source, self.destination)
                self.total_bytes += (await run_blocking(source.stat)).st_size
                self.copied += 1
            except FileNotFoundError as error:
                ctx.add_error(error)
            self.done += 1
            ctx.progress(Progress.count(self.done, len(self.sources), source.name))
            await ctx.checkpoint()
        return FileCopyOutput(copied_count=self.copied, total_bytes=self.total_bytes)


async def main(url: str) -> None:
    """Copy some files, with a pause between."""
    with tempfile.TemporaryDirectory() as folder:
        sources = [Path(folder) / f"{number}.txt" for number in range(200)]
        for source in sources:
            source.write_text("content")
        destination = Path(folder) / "copies"
        destination.mkdir()
        async with JobDb.open(url) as db:
            await db.init_schema()
            async with JobManager(db, poll=0.1, progress_every=0.01) as jobs:
                handle = await jobs.dispatch(FileCopy(sources=sources, destination=destination))
                async for progress in handle.progress():
                    if progress.done:
                        break
                if not await jobs.pause_job(handle.id):
                    await jobs.crew.wait_idle()
                print(f"paused: {await handle.status()}")
                await jobs.resume_job(handle.id)
                output = await handle.result(30)
        print(f"copied {output.copied_count} files, {output.total_bytes} bytes")
        assert len(list(destination.iterdir())) == len(sources)


if __name__ == "__main__":
    asyncio.run(main(url_argument(__doc__) or ":memory:"))
