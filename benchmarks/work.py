"""The jobs of the benchmark and the moves they make: the same for both sides."""

from __future__ import annotations

import asyncio
import itertools
import random

from benchmarks.rounds import crowd
from pandora_db import Job, JobDb, Preset

LIVE = 20_000
SNOWFLAKE = 1_200_000_000_000_000_000
REQUESTED = 1_750_000_000
_LAST_STAGE = 5


def _texts(number: int) -> tuple[str, str, str]:
    return (
        f"user-{number % 997}",
        f"https://videos.example/{number:x}.mkv",
        f"/srv/pandora/jobs/{number:x}",
    )


def new_job(number: int) -> Job:
    """The job of that number, validated."""
    author, link, directory = _texts(number)
    return Job(
        author=author,
        link=link,
        preset=Preset.STANDARD,
        directory=directory,
        message_id=SNOWFLAKE + number,
        channel_id=SNOWFLAKE,
    )


def raw_row(number: int) -> tuple[object, ...]:
    """The same as the values of libpndb's INSERT, ready made."""
    author, link, directory = _texts(number)
    return (
        number, author, REQUESTED + number, 1, 1, None, link, directory, 0,
        SNOWFLAKE + number, SNOWFLAKE,
    )  # fmt: skip


class Moves:
    """(job id, next stage) over all jobs in random order, from each stage to the next."""

    def __init__(self, ids: list[int], seed: int) -> None:
        self._ids = ids
        random.Random(seed).shuffle(self._ids)  # noqa: S311 - an order, not a secret
        self.rewind()

    def rewind(self) -> None:
        """Begin again at the first stage."""
        stages = range(1, _LAST_STAGE + 1)
        self._moves = ((job_id, stage) for stage in stages for job_id in self._ids)
        self.left = len(self._ids) * _LAST_STAGE

    def next(self) -> tuple[int, int]:
        """The next move."""
        self.left -= 1
        return next(self._moves)


class Ours:
    """A `JobDb` with `LIVE` jobs, and the calls that are measured."""

    def __init__(self, db: JobDb, ids: list[int], seed: int) -> None:
        self.db = db
        self.ids = ids
        self._numbers = itertools.count(LIVE)
        self._moves = Moves(list(ids), seed)
        self._reads = itertools.cycle(ids)

    @classmethod
    async def filled(cls, db: JobDb, seed: int) -> Ours:
        """Insert the jobs."""
        await db.init_schema()
        ids = await db.insert_jobs([new_job(number) for number in range(LIVE)])
        return cls(db, ids, seed)

    async def insert(self) -> None:
        """Validate and store one job."""
        await self.db.insert_job(new_job(next(self._numbers)))

    async def update(self) -> None:
        """Move one job on by a stage."""
        await self.db.update_stage(*self._moves.next())

    async def read(self) -> None:
        """Get one job."""
        assert await self.db.get_job(next(self._reads)) is not None

    async def updates(self, callers: int, seconds: float) -> float:
        """The rate of `update`, with jobs enough to move."""
        if self._moves.left < 80_000 * seconds:
            await self._back()
        return await crowd(callers, seconds, self.update)

    async def _back(self) -> None:
        ids = iter(self.ids)

        async def caller() -> None:
            for job_id in ids:
                await self.db.requeue_job(job_id)

        await asyncio.gather(*(caller() for _ in range(200)))
        self._moves.rewind()
