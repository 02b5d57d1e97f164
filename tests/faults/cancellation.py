"""T15: every public call of a handle, cancelled at every await point of it.

`python -m tests.faults.cancellation --long --json FILE`
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from pandora_db import JobDb
from tests.faults.calls import DOOR, EVERY, WRITES, Call
from tests.faults.command import Bench, main
from tests.faults.door import cancel_connect, cancel_init_schema, wiper
from tests.faults.leaks import NAME, Watch, footprint
from tests.faults.scenes import Ended, Scene, play
from tests.faults.stepping import Cancellation, Moment

if TYPE_CHECKING:
    from collections.abc import Iterable

POOL = 3
MOST_POINTS = 60


class Exercise:
    """One handle, and the calls that are cancelled on it."""

    def __init__(self, db: JobDb, watch: Watch) -> None:
        self.db = db
        self.watch = watch
        self.tally: Counter[str] = Counter()
        self._number = 0

    def _author(self) -> str:
        self._number += 1
        return f"author {self._number}"

    async def call(self, call: Call, scene: Scene, moments: Iterable[Moment]) -> None:
        """Cancel `call` at each of its points, at each of the moments."""
        before, after = await self._reference(call)
        for moment in moments:
            for at in range(1, MOST_POINTS):
                author = self._author()
                known = asyncio.all_tasks()
                where = f"{call.name} {scene}, point {at}, cancelled {moment}"
                try:
                    ended, points = await play(
                        self.db, call, author, Cancellation(at, moment), scene
                    )
                    self.tally["calls"] += 1
                    self.tally[str(ended)] += 1
                    await self._usable(known)
                    found = await footprint(self.watch, author)
                except Exception as error:
                    error.add_note(where)
                    raise
                allowed = [after] if ended is Ended.ANSWERED else [before, after]
                assert found in allowed, f"{where}: {found} is neither {before} nor {after}"
                self.tally["applied" if found == after != before else "not applied"] += 1
                if points < at:
                    break
                self.tally["points"] += 1
            else:
                raise AssertionError(f"{call.name} waits {MOST_POINTS} times")

    async def _reference(self, call: Call) -> tuple[object, object]:
        author = self._author()
        job_id = await call.prepare(self.db, author)
        before = await footprint(self.watch, author)
        await call.run(self.db, author, job_id)
        return before, await footprint(self.watch, author)

    async def _usable(self, known: set[asyncio.Task[object]]) -> None:
        await self.watch.nothing_open(POOL)
        await self.watch.only_tasks(known)
        assert not self.watch.errors, self.watch.errors
        await self.db.get_queue_length()
        await self.db.get_next_job_id()
        if self.db.dialect == "postgres":
            use = self.db._driver._pool.use  # type: ignore[attr-defined]
            assert use.size <= POOL, use
            assert use.size == use.idle, use
            assert use.waiting == 0, use


def scenes_of(call: Call, dialect: str) -> list[Scene]:
    """The scenes in which `call` can be made."""
    if call in DOOR:
        scenes = [Scene.ALONE, Scene.CROWD]
    else:
        scenes = [Scene.ALONE, Scene.CROWD, Scene.INSIDE, Scene.BOUND]
    return [*scenes, Scene.EMPTY_POOL] if dialect == "postgres" else scenes


def _moments(call: Call, scene: Scene, *, thorough: bool) -> list[Moment]:
    if thorough or (call in WRITES and scene is Scene.INSIDE):
        return list(Moment)
    return [Moment.WAITING, Moment.ANSWERED] if scene is Scene.ALONE else [Moment.WAITING]


async def cancel_everywhere(
    url: str, calls: Iterable[Call] = EVERY, *, thorough: bool = True
) -> Counter[str]:
    """Cancel `calls` at every point on the migrated database at `url`.

    Thorough: every moment in every scene; otherwise the rarer moments only where the call writes.
    """
    async with Watch(url) as watch:
        # Notifications go out behind a call, on a connection that would count as one in use.
        settings = {"application_name": NAME, "pool_max": POOL, "sweep": None, "notify": False}
        async with JobDb.open(url, **settings) as db:
            exercise = Exercise(db, watch)
            for call in calls:
                for scene in scenes_of(call, db.dialect):
                    await exercise.call(call, scene, _moments(call, scene, thorough=thorough))
                exercise.tally["methods"] += 1
        await watch.nothing_left()
    exercise.tally["later than 100 ms"] = watch.late
    return exercise.tally


async def _init_schema(url: str, *, long: bool) -> Counter[str]:
    return await cancel_init_schema(url, wiper(url), step=1 if long else 11)


async def _report(bench: Bench) -> dict[str, Any]:
    return {
        "sqlite": await cancel_everywhere(bench.sqlite(), thorough=bench.long),
        "postgres": await cancel_everywhere(bench.postgres(), thorough=bench.long),
        "sqlite, the door": await cancel_connect(bench.sqlite()),
        "postgres, the door": await cancel_connect(bench.postgres()),
        "sqlite, init_schema": await _init_schema(bench.sqlite(migrated=False), long=bench.long),
        "postgres, init_schema": await _init_schema(
            bench.postgres(migrated=False), long=bench.long
        ),
    }


if __name__ == "__main__":
    main(_report)
