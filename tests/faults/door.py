"""T15 at the door: connect, open, close and init_schema, cancelled at every await point."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from pandora_db import JobDb
from tests.faults.leaks import NAME, Watch
from tests.faults.stepping import Moment, Stepped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


MOST_POINTS = 400


async def _run(stepped: Stepped) -> Any:
    task = asyncio.ensure_future(_drive(stepped))
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


async def _drive(stepped: Stepped) -> Any:
    return await stepped


async def _each_point(
    watch: Watch, tally: Counter[str], name: str, once: Callable[[int, Moment], Awaitable[int]]
) -> None:
    for moment in Moment:
        for at in range(1, MOST_POINTS):
            try:
                points = await once(at, moment)
                await watch.nothing_left()
            except Exception as error:
                error.add_note(f"{name}, point {at}, cancelled {moment}")
                raise
            assert not watch.errors, watch.errors
            if points < at:
                break
            tally["points"] += 1
    tally["methods"] += 1


async def cancel_connect(url: str) -> Counter[str]:
    """Cancel `connect()`, `open()` and `close()` everywhere."""
    tally: Counter[str] = Counter()
    async with Watch(url) as watch:

        async def connect(at: int, moment: Moment) -> int:
            stepped = Stepped(
                JobDb.connect(url, application_name=NAME, pool_min=2, sweep=None), at, moment
            )
            db = await _run(stepped)
            if db is not None:
                await db.close()
            return stepped.points

        async def opened(at: int, moment: Moment) -> int:
            async def use() -> None:
                async with JobDb.open(url, application_name=NAME, sweep=None) as db:
                    await db.get_queue_length()

            stepped = Stepped(use(), at, moment)
            await _run(stepped)
            return stepped.points

        async def close(at: int, moment: Moment) -> int:
            db = await JobDb.connect(url, application_name=NAME, pool_min=2, sweep=None)
            await db.get_queue_length()
            stepped = Stepped(db.close(), at, moment)
            await _run(stepped)
            await db.close()
            return stepped.points

        await _each_point(watch, tally, "connect", connect)
        await _each_point(watch, tally, "open", opened)
        await _each_point(watch, tally, "close", close)
    return tally


async def cancel_init_schema(
    url: str, wipe: Callable[[], None], moments: tuple[Moment, ...] = tuple(Moment), step: int = 1
) -> Counter[str]:
    """Cancel `init_schema()` at every `step`-th point, each time on an empty database."""
    tally: Counter[str] = Counter()
    for moment in moments:
        for at in range(1, MOST_POINTS, step):
            wipe()
            async with (
                JobDb.open(url, application_name=NAME, sweep=None) as db,
                Watch(url) as watch,
            ):
                stepped = Stepped(db.init_schema(), at, moment)
                await _run(stepped)
                await watch.nothing_open()
                version = (await db.health()).schema_version
                assert version in (None, 1), f"point {at}, {moment}: {version}"
                await db.init_schema()
                assert await db.verify_schema() == [], f"point {at}, {moment}"
                tally[f"version {version} afterwards"] += 1
            if stepped.points < at:
                break
            tally["points"] += 1
    tally["methods"] += 1
    return tally


def wiper(url: str) -> Callable[[], Any]:
    """Answer what empties the database at `url`."""
    if url.startswith("sqlite:"):
        path = Path(url.removeprefix("sqlite:///"))
        return lambda: [file.unlink() for file in path.parent.glob(f"{path.name}*")]

    def wipe() -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")

    return wipe
