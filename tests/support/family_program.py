"""A process that works on parents and their children, one job at a time, until its stdin closes."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from pydantic import BaseModel

from pandora_db import JobDb, Settings
from pandora_db.runtime import JobContext, JobManager, Registry

registry = Registry()
SETTINGS = Settings(lease=1.0, heartbeat=0.2, sweep=0.3, max_attempts=50)


@registry.job(name="leaf")
class Leaf(BaseModel):
    """Takes a moment."""

    number: int

    async def run(self, ctx: JobContext) -> int:
        """Its number."""
        await asyncio.sleep(0.03)
        ctx.log(f"leaf {self.number}")
        return self.number


@registry.job(name="tree")
class Tree(BaseModel):
    """Begins leaves, and trees that are one lower."""

    number: int
    height: int
    begun: int = 0

    async def run(self, ctx: JobContext) -> int:
        """How many leaves it has."""
        while self.begun < 3:
            await ctx.spawn(Leaf(number=10 * self.number + self.begun))
            self.begun += 1
            await ctx.checkpoint(force=True)
        if self.height:
            await ctx.spawn(Tree(number=10 * self.number, height=self.height - 1))
        children = await ctx.wait_children()
        counts: list[Any] = [child.output for child in children if child.name == "tree"]
        leaves = sum(child.name == "leaf" for child in children)
        return leaves + int(sum(counts))


async def main(url: str) -> None:
    """Work until the other side ends."""
    async with (
        JobDb.open(url, settings=SETTINGS) as db,
        JobManager(db, registry, concurrency=1, poll=0.1, shutdown_timeout=3),
    ):
        print("at work", flush=True)
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
