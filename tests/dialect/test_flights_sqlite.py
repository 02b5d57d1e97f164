"""What flies together on SQLite, and who goes on first when it lands."""

from __future__ import annotations

import asyncio
import contextvars
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import pytest

from pandora_db import Claim, Finish, JobDb, LeaseLost, PandoraDbError, PoolTimeout, Stage
from pandora_db.drivers.sqlite.work import Worker
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from pathlib import Path


async def test_the_next_flight_is_out_before_a_long_answer_is_looked_at(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        await db.insert_jobs(make_job() for _ in range(100))
        held = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=50)
        driver: Any = db._driver
        turns: list[int] = []
        take = driver.take

        async def taking(*args: Any, **more: Any) -> Any:
            before = driver._writer.turns
            rows = await take(*args, **more)
            turns.append(driver._writer.turns - before)
            return rows

        monkeypatch.setattr(driver, "take", taking)

        async def work() -> None:
            while held:
                await db.finish_job(held.pop(), Stage.DOWNLOADED)

        first = asyncio.ensure_future(work())  # flies alone, the others together behind it
        await asyncio.sleep(0)
        async with asyncio.TaskGroup() as group:
            claiming = group.create_task(
                db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=50)
            )
            for _ in range(20):
                group.create_task(work())
        await first

        assert turns == [2]  # its own, and that of those who flew with it and ask again
        assert len(claiming.result()) == 50
        assert not held


def refuse(*_: object) -> None:
    """In the place of `Worker._commit_each`."""
    raise AssertionError("each call was run by itself")


@pytest.mark.parametrize("call", ["finish", "output", "move"])
async def test_a_crowd_that_is_filled_up_is_done_by_one_statement(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    monkeypatch.setattr(Worker, "_commit_each", refuse)
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        ids = await db.insert_jobs(make_job() for _ in range(36))
        if call == "move":
            calls = [db.update_stage(job_id, Stage.DOWNLOADING) for job_id in ids]
        else:
            claims = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=36)
            output = {"bytes": 5} if call == "output" else None
            calls = [db.finish_job(claim, Stage.DOWNLOADED, output=output) for claim in claims]

        await asyncio.gather(*calls)  # the first flies alone; 35 become 40 rows

        assert {len(await db.history(job_id)) for job_id in ids} == {2 if call == "move" else 3}


class Claiming:
    """A claim of 20 jobs that is under way until `go_on` is called, beside jobs to be ended.

    Attributes:
        db: the handle.
        claims: 20 of an earlier call.
        task: the claim.
        turns: flights and transactions since, its own included.
        fails: whether its first statement is to fail.
    """

    def __init__(self, db: JobDb, claims: list[Claim]) -> None:
        self.claims = claims
        self.db = db
        self.fails = False
        self._lane: Any = db._driver._writer  # type: ignore[attr-defined]
        self._before = self._lane.turns
        self._at_work = threading.Event()
        self._may_go_on = threading.Event()
        self.task = asyncio.ensure_future(
            db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=20)
        )

    @property
    def turns(self) -> int:
        return self._lane.turns - self._before

    def hold(self) -> None:
        """In the thread, once it has the write lock."""
        self._at_work.set()
        assert self._may_go_on.wait(10)
        if self.fails:
            raise sqlite3.OperationalError("disk I/O error")

    async def wait_until_held(self) -> None:
        assert await asyncio.to_thread(self._at_work.wait, 10)

    def go_on(self) -> None:
        self._may_go_on.set()

    async def end(self, *claims: Claim) -> list[asyncio.Task[Stage]]:
        """Ends of these claims, asked for while it is under way."""
        tasks: list[Any] = [
            asyncio.ensure_future(self.db.finish_job(claim, Stage.DOWNLOADED)) for claim in claims
        ]
        await asyncio.sleep(0)
        return tasks


@asynccontextmanager
async def claiming(
    path: Path, monkeypatch: pytest.MonkeyPatch, *, jobs: int = 40, **settings: Any
) -> AsyncGenerator[Claiming, None]:
    async with JobDb.open(path, sweep=None, **settings) as db:
        await db.init_schema()
        with closing(sqlite3.connect(path)) as raw:
            raw.execute(
                "CREATE TRIGGER theirs BEFORE INSERT ON jobs WHEN NEW.author = 'unwanted' "
                "BEGIN SELECT RAISE(ABORT, 'not here'); END"
            )
        await db.insert_jobs(make_job() for _ in range(jobs))
        claims = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=20)
        scene = Claiming(db, claims)
        run_all = Worker._run_all

        def run(*args: Any) -> Any:
            monkeypatch.setattr(Worker, "_run_all", run_all)
            scene.hold()
            return run_all(*args)

        monkeypatch.setattr(Worker, "_run_all", run)
        await scene.wait_until_held()
        try:
            yield scene
        finally:
            scene.go_on()


async def test_what_is_asked_for_while_many_are_claimed_is_committed_with_them(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Worker, "_commit_each", refuse)
    async with claiming(sqlite_path, monkeypatch) as scene:
        ends = await scene.end(*scene.claims)
        scene.go_on()

        assert await asyncio.gather(*ends) == [Stage.DOWNLOADED] * 20
        assert len(await scene.task) == 20
        assert scene.turns == 1
        for claim in scene.claims:
            assert [event.kind.name for event in await scene.db.history(claim.job_id)] == [
                "INSERTED", "CLAIMED", "FINISHED",
            ]  # fmt: skip


async def test_who_joins_a_claim_late_answers_for_itself(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claiming(sqlite_path, monkeypatch) as scene:
        lost, *others = scene.claims
        lost.token += 1
        ends = await scene.end(lost, *others)
        scene.go_on()

        outcomes: list[Any] = await asyncio.gather(*ends, return_exceptions=True)
        assert isinstance(outcomes[0], LeaseLost)
        assert outcomes[1:] == [Stage.DOWNLOADED] * 19
        assert len(await scene.task) == 20
        assert scene.turns == 1
        assert len(await scene.db.history(lost.job_id)) == 2


async def test_one_that_joins_alone_and_is_refused_costs_the_claim_nothing(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claiming(sqlite_path, monkeypatch) as scene:
        inserting = asyncio.ensure_future(scene.db.insert_job(make_job(author="unwanted")))
        await asyncio.sleep(0)
        scene.go_on()

        with pytest.raises(PandoraDbError, match="not here"):
            await inserting
        assert len(await scene.task) == 20
        assert scene.turns == 1


async def test_who_leaves_before_the_thread_came_to_it_is_withdrawn(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claiming(sqlite_path, monkeypatch) as scene:
        gone, *others = scene.claims
        ends = await scene.end(gone, *others)
        ends[0].cancel()
        scene.go_on()

        assert await asyncio.gather(*ends[1:]) == [Stage.DOWNLOADED] * 19
        await scene.task
        assert scene.turns == 1
        assert len(await scene.db.history(gone.job_id)) == 2
        assert await scene.db.finish_job(gone, Stage.DOWNLOADED) == Stage.DOWNLOADED


async def test_when_the_claim_fails_those_who_joined_it_fly_without_it(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claiming(sqlite_path, monkeypatch) as scene:
        scene.fails = True
        ends = await scene.end(*scene.claims)
        scene.go_on()

        assert await asyncio.gather(*ends) == [Stage.DOWNLOADED] * 20
        with pytest.raises(PandoraDbError):
            await scene.task
        assert scene.turns == 2


async def test_a_transaction_takes_its_turn_before_who_comes_after_it(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claiming(sqlite_path, monkeypatch) as scene:
        first, second, *_ = scene.claims
        seen: list[int] = []

        async def look() -> None:
            async with scene.db.transaction() as tx:
                seen[:] = [len(await tx.history(one.job_id)) for one in (first, second)]

        before = await scene.end(first)
        looking = asyncio.ensure_future(look())
        await asyncio.sleep(0)
        after = await scene.end(second)
        scene.go_on()

        await asyncio.gather(*before, looking, *after)
        assert seen == [3, 2]
        await scene.task


async def test_those_of_a_claim_that_failed_go_before_a_transaction_behind_them(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claiming(sqlite_path, monkeypatch) as scene:
        seen: list[int] = []

        async def look() -> None:
            async with scene.db.transaction() as tx:
                seen[:] = [len(await tx.history(one.job_id)) for one in scene.claims]

        scene.fails = True
        ends = await scene.end(*scene.claims)
        looking = asyncio.ensure_future(look())
        await asyncio.sleep(0)
        scene.go_on()

        await asyncio.gather(*ends, looking)
        assert seen == [3] * 20
        with pytest.raises(PandoraDbError):
            await scene.task


async def test_many_ends_of_one_call_join_a_claim_too(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claiming(sqlite_path, monkeypatch) as scene:
        ending = asyncio.ensure_future(
            scene.db.finish_jobs([Finish(one, Stage.DOWNLOADED) for one in scene.claims])
        )
        await asyncio.sleep(0)
        scene.go_on()

        assert await ending == [Stage.DOWNLOADED] * 20
        await scene.task
        assert scene.turns == 1


async def test_who_finds_no_room_in_max_batch_flies_next(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claiming(sqlite_path, monkeypatch, max_batch=11) as scene:
        ends = await scene.end(*scene.claims)
        scene.go_on()

        assert await asyncio.gather(*ends) == [Stage.DOWNLOADED] * 20
        await scene.task
        assert scene.turns == 2


async def test_those_who_joined_a_claim_are_gathered_again(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claiming(sqlite_path, monkeypatch, jobs=30) as scene:  # 10 are left to claim
        first, second = scene.claims[:10], scene.claims[10:]

        async def work(*claims: Claim) -> None:
            for claim in claims:
                await scene.db.finish_job(claim, Stage.DOWNLOADED)

        working = [asyncio.ensure_future(work(*pair)) for pair in zip(first, second, strict=True)]
        await asyncio.sleep(0)
        scene.go_on()

        await asyncio.gather(*working)
        assert len(await scene.task) == 10
        assert scene.turns == 2


async def test_nobody_joins_a_claim_that_waits_for_another_process(sqlite_path: Path) -> None:
    async with JobDb.open(sqlite_path, sweep=None, lock_timeout=2, acquire_timeout=0.3) as db:
        await db.init_schema()
        await db.insert_jobs(make_job() for _ in range(20))
        with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as raw:
            raw.execute("BEGIN IMMEDIATE")
            taking = asyncio.ensure_future(
                db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=20)
            )
            await asyncio.sleep(0.05)
            with pytest.raises(PoolTimeout):
                await db.insert_job(make_job())
            raw.execute("COMMIT")
        assert len(await taking) == 20


async def test_who_waits_for_room_is_not_forgotten_when_others_join_a_claim(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(sqlite_path, sweep=None, max_pending=5, acquire_timeout=5) as db:
        await db.init_schema()
        run_all = Worker._run_all

        def slowly(*args: Any) -> Any:
            time.sleep(0.05)
            return run_all(*args)

        monkeypatch.setattr(Worker, "_run_all", slowly)
        outside = contextvars.copy_context()
        begin = asyncio.get_running_loop().create_task
        async with db.transaction():
            claim = db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=20)
            taking = begin(claim, context=outside)
            await asyncio.sleep(0.01)
            inserting = [begin(db.insert_job(make_job()), context=outside) for _ in range(20)]
            await asyncio.sleep(0.05)
        async with asyncio.timeout(3):
            await asyncio.gather(taking, *inserting)


async def test_who_joined_a_claim_and_leaves_during_the_commit_is_completed(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with claiming(sqlite_path, monkeypatch) as scene:
        taken, may_go_on = threading.Event(), threading.Event()
        try_together = Worker._try_together

        def wait(*args: Any) -> Any:
            taken.set()
            assert may_go_on.wait(10)
            return try_together(*args)

        monkeypatch.setattr(Worker, "_try_together", wait)
        ends = await scene.end(*scene.claims)
        scene.go_on()
        assert await asyncio.to_thread(taken.wait, 10)
        ends[0].cancel()
        may_go_on.set()

        await asyncio.gather(*ends[1:])
        await scene.task
        assert len(await scene.db.history(scene.claims[0].job_id)) == 3
