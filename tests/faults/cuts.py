"""T7: the connection to PostgreSQL is cut after every byte of a call's exchange.

`python -m tests.faults.cuts --long --json FILE`
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

from pandora_db import ConnectionFailed, JobDb, OutcomeUnknown
from tests.faults.calls import DOOR, READS, WRITES, Call
from tests.faults.command import Bench, main
from tests.faults.leaks import NAME, Watch, footprint
from tests.faults.proxy import DOWN, UP, Ending, Plan, Proxy

if TYPE_CHECKING:
    from collections.abc import Iterable

POOL = 3
CALLS = (*WRITES, *(call for call in DOOR if call.name == "transaction"), *READS[:3])


SEARCH = -1
"""In place of a number of cuts: one cut of the answer, and one of the search for it."""


class Cutter:
    """One handle behind the proxy, and the calls whose connection is cut."""

    def __init__(self, db: JobDb, proxy: Proxy, watch: Watch, chance: random.Random) -> None:
        self.db = db
        self.proxy = proxy
        self.watch = watch
        self.tally: Counter[str] = Counter()
        self._chance = chance
        self._number = 0

    def author(self) -> str:
        """Say a name that no job has yet."""
        self._number += 1
        return f"author {self._number}"

    async def call(self, call: Call, step: int, times: int) -> None:
        """Cut the connection of `call` at every `step`-th byte, and of its next tries too."""
        before, after, sizes = await self._reference(call)
        for direction in (UP, DOWN):
            # A short exchange is cut too: the first cut lies within it whatever the step.
            start = self._chance.randrange(min(step, sizes[direction]))
            for at in range(start, sizes[direction], step):
                ending = self._chance.choice((Ending.FIN, Ending.RST))
                await self._cut(call, Plan(direction, at, ending, times), before, after)
                self.tally["points"] += 1

    async def call_twice(self, call: Call, step: int) -> None:
        """Cut the answer of `call`, then the search for it at every `step`-th byte."""
        before, after, sizes = await self._reference(call)
        first = Plan(DOWN, max(sizes[DOWN] - 8, 0))
        for at in range(self._chance.randrange(step), 9000, step):
            reached = await self._cut(call, first, before, after, then=Plan(DOWN, at))
            self.tally["points"] += 1
            if reached < 2:
                break

    async def _reference(self, call: Call) -> tuple[Any, Any, dict[str, int]]:
        await call.run(self.db, *(await self._prepared(call)))
        author, job_id = await self._prepared(call)
        before = await footprint(self.watch, author)
        self.proxy.arm()
        await call.run(self.db, author, job_id)
        sizes = self.proxy.seen
        return before, await footprint(self.watch, author), sizes

    async def _prepared(self, call: Call) -> tuple[str, int]:
        author = self.author()
        return author, await call.prepare(self.db, author)

    async def _cut(
        self, call: Call, plan: Plan, before: Any, after: Any, then: Plan | None = None
    ) -> int:
        await call.run(self.db, *(await self._prepared(call)))  # its statements are prepared
        author, job_id = await self._prepared(call)
        where = f"{call.name}, {plan}, {then}"
        self.proxy.arm(plan, then=then)
        try:
            outcome = await self._outcome(call, author, job_id)
        except Exception as error:
            error.add_note(where)
            raise
        finally:
            cut = self.proxy.cuts
            self.proxy.heal()
        await self.watch.nothing_open(POOL)
        found = await footprint(self.watch, author)
        allowed = {"done": [after], "not done": [before], "unknown": [before, after]}[outcome]
        assert found in allowed, f"{where}: {outcome}, but {found}; {before} → {after}"
        await self._usable()
        self.tally[outcome] += 1
        self.tally["cut"] += bool(cut)
        self.tally["applied" if found == after else "not applied"] += call.mutates
        return cut

    async def _outcome(self, call: Call, author: str, job_id: int) -> str:
        try:
            async with asyncio.timeout(20):
                await call.run(self.db, author, job_id)
        except ConnectionFailed:
            return "not done"
        except OutcomeUnknown as error:
            self.proxy.heal()
            operation_id = error.operation_id
        else:
            return "done"
        if call in DOOR:  # a transaction has no operation of its own
            return "unknown"
        assert operation_id is not None
        await call.run(self.db, author, job_id, operation_id=operation_id)
        self.tally["repeated"] += 1
        return "done"

    async def _usable(self) -> None:
        assert await self.db.get_next_job_id() > 0
        use = self.db._driver._pool.use  # type: ignore[attr-defined]
        assert use.size == use.idle <= POOL, use
        assert not self.watch.errors, self.watch.errors


async def cut_everywhere(
    dsn: str, seed: int, step: int = 1, times: int = 1, calls: Iterable[Call] = CALLS
) -> Counter[str]:
    """Cut `calls` on the migrated database at `dsn`; `SEARCH` cuts the search for the answer."""
    chance = random.Random(f"{seed} {times}")
    async with (
        Watch(dsn) as watch,
        Proxy(dsn) as proxy,
        JobDb.open(
            proxy.dsn,
            application_name=NAME,
            pool_max=POOL,
            outcome_timeout=5.0,
            sweep=None,
            notify=False,  # nothing but the call itself shall meet the cut
        ) as db,
    ):
        cutter = Cutter(db, proxy, watch, chance)
        for call in calls:
            if times == SEARCH:
                await cutter.call_twice(call, step)
            else:
                await cutter.call(call, step, times)
    return cutter.tally


async def _report(bench: Bench) -> dict[str, Any]:
    step = 1 if bench.long else 13
    return {
        "cut once": await cut_everywhere(bench.postgres(), bench.seed, step),
        "cut three times": await cut_everywhere(
            bench.postgres(), bench.seed, step * 7 if bench.long else step, times=3
        ),
        "the search is cut too": await cut_everywhere(
            bench.postgres(), bench.seed, 67 if bench.long else 997, SEARCH, WRITES
        ),
    }


if __name__ == "__main__":
    main(_report)
