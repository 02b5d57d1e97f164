"""Jobs begin children, wait for them without holding a hand, and go on after a kill."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from pydantic import BaseModel, Field

from pandora_db import (
    Interrupted,
    InvalidInput,
    Job,
    JobCancelled,
    JobDb,
    JobStatus,
    LeaseLost,
    LockTimeout,
    NotFound,
    Stage,
    TaskStage,
)
from pandora_db.runtime import (
    Cancelled,
    JobContext,
    JobHandle,
    JobInfo,
    JobManager,
    Pipeline,
    Registry,
    family,
)
from pandora_db.runtime.dispatching import child_key
from pandora_db.runtime.hands import Hand, Hands
from pandora_db.store.job_moves import JobMoves
from tests.support.handlers import FAST, kinds, one_stage, row_of, run_one
from tests.support.waiting import wait_until

REGISTRY = Registry()
OPTIONS: dict[str, Any] = {**FAST, "retry_in": 0.0}
seen: list[Any] = []
gate = asyncio.Event()


@REGISTRY.job(name="part")
class Part(BaseModel):
    number: int = 0
    fails: bool = False
    waits: bool = False

    async def run(self, ctx: JobContext) -> int:
        seen.append(("part", self.number))
        if self.fails:
            raise OSError("broken")
        while self.waits and not gate.is_set():
            await ctx.check_interrupt()
            await asyncio.sleep(0.005)
        return self.number * 10


@REGISTRY.job(name="whole")
class Whole(BaseModel):
    parts: list[Part] = Field(default_factory=list[Part])
    begun: int = 0

    async def run(self, ctx: JobContext) -> list[Any]:
        seen.append(("whole", self.begun))
        self.begun += 1
        await ctx.checkpoint()
        for part in self.parts:
            await ctx.spawn(part, max_attempts=1)
        return [[child.status, child.output] for child in await ctx.wait_children()]


@REGISTRY.job(name="tower")
class Tower(BaseModel):
    height: int

    async def run(self, ctx: JobContext) -> int:
        if not self.height:
            return 0
        child = await ctx.spawn(Tower(height=self.height - 1))
        info: JobInfo = await ctx.wait(child)
        assert isinstance(info.output, int)
        return info.output + 1


class Late(BaseModel):
    """Has a child that nobody begins."""

    async def run(self, ctx: JobContext) -> int:
        await ctx.spawn(Part(number=1), delay=1000)
        return len(await ctx.wait_children())


@pytest.fixture(autouse=True)
def _forget() -> None:
    seen.clear()
    gate.clear()


@asynccontextmanager
async def managed(db: JobDb, **options: Any) -> AsyncIterator[JobManager]:
    async with JobManager(db, REGISTRY, **{**OPTIONS, "concurrency": 1, **options}) as jobs:
        yield jobs


def parts(*numbers: int, **fields: Any) -> list[Part]:
    return [Part(number=number, **fields) for number in numbers]


async def test_a_parent_waits_for_its_children_with_one_hand(db: JobDb) -> None:
    async with managed(db) as jobs:
        handle = await jobs.dispatch(Whole(parts=parts(1, 2, 3)))
        result = await handle.result(20)

    assert result == [["completed", 10], ["completed", 20], ["completed", 30]]
    children = await db.get_children(handle.id)
    assert [row.author for row in children] == ["system"] * 3
    assert [row.priority for row in children] == [1] * 3


async def test_children_of_children_need_one_hand_only(db: JobDb) -> None:
    async with managed(db) as jobs:
        handle = await jobs.dispatch(Tower(height=6))
        assert await handle.result(20) == 6


async def test_a_parent_that_waits_goes_on_only_when_it_has_a_hand_again(db: JobDb) -> None:
    """With one hand two handlers never run at once."""
    running = 0
    most = 0
    registry = Registry()

    @registry.job(name="leaf")
    class Leaf(BaseModel):
        number: int

        async def run(self, _ctx: JobContext) -> None:
            await busy()

    async def busy() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    @registry.job(name="root")
    class Root(BaseModel):
        number: int

        async def run(self, ctx: JobContext) -> None:
            await busy()
            await ctx.wait(await ctx.spawn(Leaf(number=self.number)))
            await busy()

    async with JobManager(db, registry, **{**OPTIONS, "concurrency": 1}) as jobs:
        handles = [await jobs.dispatch(Root(number=number)) for number in range(4)]
        for handle in handles:
            await handle.result(20)

    assert most == 1


async def test_the_failure_of_a_child_is_a_value(db: JobDb) -> None:
    async with managed(db) as jobs:
        handle = await jobs.dispatch(Whole(parts=[Part(number=1), Part(number=2, fails=True)]))
        assert await handle.result(20) == [["completed", 10], ["failed", None]]

    failed = (await db.get_children(handle.id))[1]
    assert failed.error == "OSError: broken"


async def test_a_parent_that_goes_on_finds_the_children_of_the_attempt_before(db: JobDb) -> None:
    async with managed(db, concurrency=2) as jobs:
        handle = await jobs.dispatch(Whole(parts=parts(1, 2, waits=True)))
        await wait_until(lambda: ("part", 1) in seen)

    assert (await row_of(db, handle.id)).status is JobStatus.QUEUED, "it was given back"
    before = [row.job_id for row in await db.get_children(handle.id)]
    gate.set()
    async with managed(db, concurrency=2) as jobs:
        again = await jobs.handle(handle.id)
        assert again is not None
        assert await again.result(20) == [["completed", 10], ["completed", 20]]

    assert seen.count(("whole", 0)) == 1
    assert [row.job_id for row in await db.get_children(handle.id)] == before


async def test_a_parent_that_waits_is_paused_at_once(db: JobDb) -> None:
    async with managed(db, grace=10.0) as jobs:
        handle = await jobs.dispatch(Whole(parts=parts(1, waits=True)))
        await wait_until(lambda: ("part", 1) in seen)
        async with asyncio.timeout(3):
            await jobs.pause_job(handle.id)
            await wait_until(lambda: is_at(db, handle.id, JobStatus.PAUSED))
        await jobs.resume_job(handle.id)
        gate.set()
        assert await handle.result(20) == [["completed", 10]]


@pytest.mark.parametrize("how", ["pause", "cancel", "shutdown"])
async def test_a_parent_that_waits_for_a_hand_to_go_on_with_hears_what_is_asked(
    db: JobDb, how: str
) -> None:
    registry = Registry()
    registry.job(name="part")(Part)
    registry.job(name="late")(Late)
    async with AsyncExitStack() as stack:
        jobs = await stack.enter_async_context(
            JobManager(db, registry, **{**OPTIONS, "concurrency": 1, "grace": 10.0})
        )
        (worker,) = jobs.crew.workers
        handle = await jobs.dispatch(Late())
        await wait_until(lambda: has_children(db, handle.id, 1))
        other = await jobs.dispatch(Part(number=7, waits=True))
        await wait_until(lambda: ("part", 7) in seen)
        (child,) = await db.get_children(handle.id)
        await db.update_stage(child.job_id, TaskStage.COMPLETED)
        await wait_until(lambda: len(worker._hands._waiting) == 1)
        async with asyncio.timeout(3):
            if how == "shutdown":
                await stack.aclose()
                assert await is_at(db, handle.id, JobStatus.QUEUED)
                return
            if how == "pause":
                await jobs.pause_job(handle.id)
                await wait_until(lambda: is_at(db, handle.id, JobStatus.PAUSED))
            else:
                await jobs.cancel_job(handle.id)
                await wait_until(lambda: is_at(db, handle.id, JobStatus.CANCELLED))
        assert worker._hands.free == 0, "the other job has it still"
        gate.set()
        await other.result(10)
        if how == "pause":
            await jobs.resume_job(handle.id)
            assert await handle.result(10) == 1
        await wait_until(lambda: worker.idle)
        assert worker._hands.free == 1


async def test_a_hand_that_comes_just_when_its_taker_is_asked_to_stop_is_not_lost() -> None:
    hands = Hands(1, lambda: None)
    mine = Hand(hands)
    over = asyncio.Event()

    async def wait() -> None:
        async with mine.lent():
            await over.wait()

    waiting = asyncio.ensure_future(wait())
    await wait_until(lambda: hands.free == 1)
    other = Hand(hands)
    over.set()
    await wait_until(lambda: hands._waiting)
    other.end()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    mine.end()
    assert hands.free == 1


@pytest.mark.parametrize("how", ["timeout", "interrupted"])
async def test_a_parent_that_goes_on_before_a_hand_is_free_is_counted(db: JobDb, how: str) -> None:
    """It goes on at once, beside the child that has the hand, and nothing is begun meanwhile."""
    registry = Registry()
    registry.job(name="part")(Part)

    @registry.job(name="hasty")
    class Hasty(BaseModel):
        async def run(self, ctx: JobContext) -> list[Any]:
            for number in (1, 2):
                await ctx.spawn(Part(number=number, waits=number == 1))
            try:
                async with asyncio.timeout(0.3 if how == "timeout" else 60):
                    await ctx.wait_children()
            except (TimeoutError, Interrupted):
                gate.set()
            for _ in range(40):  # its own work, for longer than the child's
                await asyncio.sleep(0.01)
            return [number for _, number in seen]

    async with JobManager(db, registry, **{**OPTIONS, "concurrency": 1, "grace": 10.0}) as jobs:
        (worker,) = jobs.crew.workers
        handle = await jobs.dispatch(Hasty())
        await wait_until(lambda: ("part", 1) in seen)
        if how == "interrupted":
            await jobs.pause_job(handle.id)
        assert await handle.result(20) == [1]
        await wait_until(lambda: worker.idle)
        assert ("part", 2) in seen
        assert worker._hands.free == 1


async def test_who_meets_an_error_goes_on_when_a_hand_is_free() -> None:
    hands = Hands(1, lambda: None)
    mine = Hand(hands)
    broken = asyncio.Event()

    async def wait() -> None:
        async with mine.lent():
            await broken.wait()
            raise OSError("broken")

    waiting = asyncio.ensure_future(wait())
    await wait_until(lambda: hands.free == 1)
    other = Hand(hands)
    broken.set()
    await wait_until(lambda: hands._waiting)
    assert not waiting.done()
    other.end()
    with pytest.raises(OSError, match="broken"):
        await waiting
    assert hands.free == 0
    mine.end()
    assert hands.free == 1


async def test_two_waits_of_one_handler_take_one_hand() -> None:
    hands = Hands(1, lambda: None)
    mine = Hand(hands)
    over = asyncio.Event()

    async def wait(event: asyncio.Event) -> None:
        async with mine.lent():
            await event.wait()

    first = asyncio.ensure_future(wait(over))
    await wait_until(lambda: hands.free == 1)
    other = Hand(hands)
    over.set()
    await wait_until(lambda: hands._waiting)
    second = asyncio.ensure_future(wait(asyncio.Event()))
    await first  # the handler waits in another place by now
    assert not hands._waiting
    second.cancel()
    await asyncio.wait([second])
    assert hands.free == -1
    other.end()
    assert hands.free == 0
    mine.end()
    assert hands.free == 1


async def has_children(db: JobDb, job_id: int, count: int) -> bool:
    return len(await db.get_children(job_id)) == count


async def is_at(db: JobDb, job_id: int, status: JobStatus) -> bool:
    return (await row_of(db, job_id)).status is status


async def test_the_cancellation_of_a_parent_cancels_its_children(db: JobDb) -> None:
    async with managed(db, concurrency=2) as jobs:
        handle = await jobs.dispatch(Whole(parts=parts(1, 2, 3, waits=True)))
        await wait_until(lambda: has_children(db, handle.id, 3))
        await jobs.cancel_job(handle.id)
        with pytest.raises(JobCancelled):
            await handle.result(10)
        ids = [row.job_id for row in await db.get_children(handle.id)]
        for job_id in ids:
            await wait_until(lambda job_id=job_id: is_at(db, job_id, JobStatus.CANCELLED))

    assert len(ids) == 3


@pytest.mark.parametrize("all_of_them", [True, False])
async def test_a_parent_whose_child_is_cancelled_with_it_does_not_go_on(
    db: JobDb, all_of_them: bool
) -> None:
    """The child waits: it is cancelled by the call itself, before the parent has heard of it."""
    registry = Registry()
    registry.job(name="part")(Part)
    went_on: list[object] = []

    @registry.job(name="parent")
    class Parent(BaseModel):
        async def run(self, ctx: JobContext) -> None:
            child = await ctx.spawn(Part(number=1), delay=1000)
            went_on.append(await (ctx.wait_children() if all_of_them else ctx.wait(child)))

    async with JobManager(db, registry, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Parent())
        await wait_until(lambda: has_children(db, handle.id, 1))
        await asyncio.sleep(0.05)  # it waits
        await db.cancel_job(handle.id)
        with pytest.raises(JobCancelled):
            await handle.result(10)
    assert went_on == []


async def test_a_parent_goes_on_when_its_child_alone_is_cancelled(db: JobDb) -> None:
    registry = Registry()
    registry.job(name="part")(Part)

    @registry.job(name="parent")
    class Parent(BaseModel):
        async def run(self, ctx: JobContext) -> str:
            child = await ctx.spawn(Part(number=1), delay=1000)
            await ctx.db.cancel_job(child.id)
            return (await ctx.wait(child)).status.value

    async with JobManager(db, registry, **OPTIONS) as jobs:
        assert await (await jobs.dispatch(Parent())).result(10) == "cancelled"


async def test_a_job_that_cancels_itself_cancels_its_children(db: JobDb) -> None:
    registry = Registry()
    registry.job(name="part")(Part)

    @registry.job(name="fickle")
    class Fickle(BaseModel):
        async def run(self, ctx: JobContext) -> Cancelled:
            await ctx.spawn(Part(number=1), delay=1000)
            return Cancelled("no more")

    async with JobManager(db, registry, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Fickle())
        with pytest.raises(JobCancelled):
            await handle.result(10)
        (child,) = await db.get_children(handle.id)
        await wait_until(lambda: is_at(db, child.job_id, JobStatus.CANCELLED))


async def test_the_children_of_a_job_that_cancels_itself_are_cancelled_with_it_or_later(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry()
    registry.job(name="part")(Part)
    tries: list[int] = []
    cancel = JobMoves._cancel

    async def failing(self: JobMoves, job_id: int, *args: Any) -> bool:
        tries.append(job_id)
        if len(tries) == 3:
            raise LockTimeout("locked")
        return await cancel(self, job_id, *args)

    @registry.job(name="fickle")
    class Fickle(BaseModel):
        async def run(self, ctx: JobContext) -> Cancelled:
            for number in range(5):
                await ctx.spawn(Part(number=number), delay=1000)
            monkeypatch.setattr(JobMoves, "_cancel", failing)
            return Cancelled("no more")

    async with JobManager(db, registry, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Fickle())
        with pytest.raises(JobCancelled, match="no more"):
            await handle.result(10)
        children = await db.get_children(handle.id)
    assert [child.status for child in children] == [JobStatus.CANCELLED] * 5
    assert len(tries) > 5


async def test_a_child_that_is_begun_while_its_parent_cancels_itself_is_cancelled_too(
    db: JobDb,
) -> None:
    tasks: list[asyncio.Task[Any]] = []

    async def handler(ctx: JobContext) -> Cancelled:
        child = Job(author="mika", ready=Stage.DOWNLOADED)
        tasks.append(asyncio.create_task(ctx.spawn(child, key="late")))
        await asyncio.sleep(0)
        return Cancelled("no more")

    async with one_stage(handler, concurrency=8).running(db, **FAST) as crew:
        parents = await db.insert_jobs([Job(author="mika") for _ in range(40)])
        await crew.wait_idle()
    for found in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(found, JobHandle | LeaseLost | Interrupted), found
    for parent in parents:
        assert (await row_of(db, parent)).ready == Stage.CANCELLED
        for child in await db.get_children(parent):
            assert child.ready == Stage.CANCELLED


@pytest.mark.parametrize(
    ("field", "value"),
    [("priority", 5), ("delay", 60.0), ("max_attempts", 2), ("tags", ("gpu",))],
)
async def test_options_beside_a_job_of_another_pipeline_are_refused(
    db: JobDb, field: str, value: Any
) -> None:
    async def handler(ctx: JobContext) -> None:
        with pytest.raises(InvalidInput, match=f"^{field} was given beside a Job") as refused:
            await ctx.spawn(Job(author="mika"), key="child", **{field: value})
        assert refused.value.field == field
        assert not await ctx.children()

    assert (await run_one(db, handler)).ready == Stage.DOWNLOADED


async def test_a_key_gives_the_child_that_has_it_whatever_its_class(db: JobDb) -> None:
    registry = Registry()
    registry.job(name="part")(Part)

    @registry.job(name="other")
    class Other(BaseModel):
        async def run(self, _ctx: JobContext) -> str:
            return "other"

    @registry.job(name="parent")
    class Parent(BaseModel):
        async def run(self, ctx: JobContext) -> object:
            await ctx.spawn(Other(), key="k")
            again = await ctx.spawn(Part(number=1), key="k")
            await ctx.wait(again)
            return await again.result()

    async with JobManager(db, registry, **OPTIONS) as jobs:
        assert await (await jobs.dispatch(Parent())).result(10) == "other"


async def test_what_is_no_child_is_not_waited_for(db: JobDb) -> None:
    registry = Registry()
    registry.job(name="part")(Part)
    stranger = await db.insert_job(Job(author="mika"))

    @registry.job(name="wrong")
    class Wrong(BaseModel):
        async def run(self, ctx: JobContext) -> list[str]:
            said: list[str] = []
            for call in (ctx.wait(stranger), ctx.wait(404), ctx.spawn(Job(author="a"))):
                try:
                    await call
                except (InvalidInput, NotFound) as error:
                    said.append(str(error))
            child = await ctx.spawn(Part(number=1), delay=1000)
            await ctx.db.delete_job(child.id)
            try:
                await ctx.wait(child)
            except NotFound as error:
                said.append(str(error))
            return said

    async with JobManager(db, registry, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Wrong())
        found = await handle.result(10)

    child_id = handle.id + 1
    assert found == [
        f"job {stranger} is no child of job {handle.id}; wait() takes what spawn() gave",
        "there is no job 404",
        "key is missing; expected what tells this Job from the other children",
        f"there is no job {child_id}",
    ]


async def test_a_child_may_be_of_another_pipeline_and_worked_on_elsewhere(db: JobDb) -> None:
    registry = Registry()

    @registry.job(name="order")
    class Order(BaseModel):
        async def run(self, ctx: JobContext) -> str:
            child = await ctx.spawn(Job(author="mika", link="https://example.com"), key="encode")
            return (await ctx.wait(child)).status

    async with JobManager(db, registry, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Order())
        children = await wait_until(lambda: db.get_children(handle.id))
        await db.update_stage(children[0].job_id, Stage.UPLOADED)
        assert await handle.result(10) == "completed"
    assert (await row_of(db, handle.id)).ready == TaskStage.COMPLETED
    assert len(await kinds(db, handle.id)) == 3


def test_equal_jobs_are_the_same_child_in_any_process() -> None:
    registry = Registry()

    @registry.job(name="tagged")
    class Tagged(BaseModel):
        tags: set[str] = Field(default_factory=set[str])
        sizes: dict[str, float] = Field(default_factory=dict[str, float])
        raw: bytes = b""

        async def run(self, _ctx: JobContext) -> None: ...

    definition = registry.get("tagged")
    key = child_key(definition, Tagged(tags=set("abcdef"), sizes={"a": 1, "b": 2}, raw=b"\xff"))

    assert key == child_key(
        definition, Tagged(tags=set("fedcba"), sizes={"b": 2, "a": 1}, raw=b"\xff")
    )
    assert key == "tagged:f8d3ec747550f8b8995cb0aeaa59c70d"
    assert key != child_key(definition, Tagged(tags=set("abcde")))


async def test_a_child_that_nobody_takes_is_told_of(
    db: JobDb, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(family, "_LONG", 0.05)
    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED)
    async def handler(ctx: JobContext) -> None:
        ctx.use_registry(REGISTRY)
        await ctx.wait(await ctx.spawn(Part()))

    await db.insert_job(Job(author="mika"))
    async with pipeline.running(db, **FAST):
        told = "job 1 has waited 0.05 s, and no worker has taken what it waits for: job 2 (part)"
        await wait_until(lambda: told in caplog.text)
        async with managed(db):
            await wait_until(lambda: is_done(db, 1))
    assert caplog.text.count("no worker has taken") == 1


async def is_done(db: JobDb, job_id: int) -> bool:
    return (await row_of(db, job_id)).ready == Stage.DOWNLOADED
