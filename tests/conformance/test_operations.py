"""P7 and P9 as a caller sees them: operation ids, crowds, withdrawal and bounded queues."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from pandora_db import (
    Claim,
    Duplicate,
    InvalidInput,
    JobDb,
    LogLine,
    NotFound,
    PandoraDbError,
    PoolTimeout,
    QueueFull,
    Stage,
    Store,
)
from pandora_db.testing import insert_job_at, make_job
from tests.support.raw import Raw

Call = Callable[[Store, UUID], Awaitable[object]]
Step = Callable[[JobDb], Awaitable[object]]


async def nothing(db: JobDb) -> None:
    del db


JOB = 5
# Per method: what comes before, the call, and what moves the job on before it is repeated.
REPEATS: dict[str, tuple[Step, Call, Step]] = {
    "insert_job": (
        nothing,
        lambda db, call: db.insert_job(make_job(author="mika"), operation_id=call),
        lambda db: db.update_stage(1, Stage.FAILED),
    ),
    "insert_jobs": (
        nothing,
        lambda db, call: db.insert_jobs(
            [make_job(author=str(n)) for n in range(5)], operation_id=call
        ),
        lambda db: db.archive_job(3),
    ),
    "update_stage": (
        lambda db: db.insert_job(make_job(job_id=JOB)),
        lambda db, call: db.update_stage(JOB, Stage.ENCODING, operation_id=call),
        lambda db: db.requeue_job(JOB),
    ),
    "archive_job": (
        lambda db: insert_job_at(db, Stage.FAILED, job_id=JOB, archived=False),
        lambda db, call: db.archive_job(JOB, operation_id=call),
        lambda db: db.retry_job(JOB),
    ),
    "update_job": (
        lambda db: db.insert_job(make_job(job_id=JOB)),
        lambda db, call: db.update_job(JOB, priority=1, operation_id=call),
        lambda db: db.update_job(JOB, priority=2),
    ),
    "retry_job": (
        lambda db: insert_job_at(db, Stage.FAILED, job_id=JOB),
        lambda db, call: db.retry_job(JOB, operation_id=call),
        lambda db: db.update_stage(JOB, Stage.ENCODING),
    ),
    "requeue_job": (
        lambda db: insert_job_at(db, Stage.ENCODING, job_id=JOB),
        lambda db, call: db.requeue_job(JOB, operation_id=call),
        lambda db: db.update_stage(JOB, Stage.UPLOADED),
    ),
    "cancel_job": (
        lambda db: db.insert_job(make_job(job_id=JOB)),
        lambda db, call: db.cancel_job(JOB, operation_id=call),
        lambda db: db.retry_job(JOB),
    ),
    "cancel_job of a working job": (
        lambda db: insert_job_at(db, Stage.ENCODING, job_id=JOB),
        lambda db, call: db.cancel_job(JOB, operation_id=call),
        lambda db: db.requeue_job(JOB),
    ),
    "decline_job": (
        lambda db: db.insert_job(make_job(job_id=JOB)),
        lambda db, call: db.decline_job(JOB, reason="no", operation_id=call),
        lambda db: db.retry_job(JOB),
    ),
    "delete_job": (
        lambda db: db.insert_job(make_job(job_id=JOB)),
        lambda db, call: db.delete_job(JOB, operation_id=call),
        lambda db: db.insert_job(make_job(job_id=JOB, author="reborn")),
    ),
    "pause_job": (
        lambda db: db.insert_job(make_job(job_id=JOB)),
        lambda db, call: db.pause_job(JOB, operation_id=call),
        lambda db: db.resume_job(JOB),
    ),
    "pause_job of a working job": (
        lambda db: insert_job_at(db, Stage.ENCODING, job_id=JOB),
        lambda db, call: db.pause_job(JOB, operation_id=call),
        lambda db: db.requeue_job(JOB),
    ),
    "resume_job": (
        lambda db: paused(db),  # noqa: PLW0108 - it is defined below
        lambda db, call: db.resume_job(JOB, operation_id=call),
        lambda db: db.pause_job(JOB),
    ),
    "claim_jobs": (
        lambda db: db.insert_jobs(make_job() for _ in range(3)),
        lambda db, call: tokens(
            db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=2, operation_id=call)
        ),
        lambda db: db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING),
    ),
    "claim_job": (
        lambda db: db.insert_job(make_job(job_id=JOB)),
        lambda db, call: tokens(db.claim_job(JOB, into=Stage.ENCODING, operation_id=call)),
        lambda db: db.update_job(JOB, priority=1),
    ),
    "finish_job": (
        lambda db: claimed(db),  # noqa: PLW0108
        lambda db, call: db.finish_job(HELD[JOB], Stage.ENCODED, operation_id=call),
        lambda db: db.update_stage(JOB, Stage.UPLOADED),
    ),
    "fail_job": (
        lambda db: claimed(db),  # noqa: PLW0108
        lambda db, call: db.fail_job(HELD[JOB], "x", operation_id=call),
        lambda db: db.cancel_job(JOB),
    ),
    "snooze_job": (
        lambda db: claimed(db),  # noqa: PLW0108
        lambda db, call: db.snooze_job(HELD[JOB], 5, operation_id=call),
        lambda db: db.cancel_job(JOB),
    ),
    "release_job": (
        lambda db: claimed(db),  # noqa: PLW0108
        lambda db, call: db.release_job(HELD[JOB], operation_id=call),
        lambda db: db.claim_job(JOB, into=Stage.ENCODING),
    ),
    "update_job of a claim": (
        lambda db: claimed(db),  # noqa: PLW0108
        lambda db, call: db.update_job(HELD[JOB], priority=1, operation_id=call),
        lambda db: db.update_job(JOB, priority=2),
    ),
    "append_logs": (
        lambda db: claimed(db),  # noqa: PLW0108
        lambda db, call: db.append_logs(HELD[JOB], [LogLine("a"), LogLine("b")], operation_id=call),
        lambda db: db.requeue_job(JOB),
    ),
    "update_stage of a claim": (
        lambda db: claimed(db),  # noqa: PLW0108
        lambda db, call: db.update_stage(HELD[JOB], Stage.ENCODED, operation_id=call),
        lambda db: db.update_stage(JOB, Stage.FAILED),
    ),
}
HELD: dict[int, Claim] = {}


async def paused(db: JobDb) -> None:
    await db.insert_job(make_job(job_id=JOB))
    await db.pause_job(JOB)


async def claimed(db: JobDb) -> None:
    await insert_job_at(db, Stage.DOWNLOADED, job_id=JOB)
    claim = await db.claim_job(JOB, into=Stage.ENCODING)
    assert claim is not None
    HELD[JOB] = claim


async def tokens(claiming: Awaitable[Any]) -> list[tuple[int, int, str]]:
    found = await claiming
    claims = found if isinstance(found, list) else [found]
    KEPT.extend(claims)  # alive, and so renewed
    return [(claim.job_id, claim.token, claim.owner) for claim in claims]


KEPT: list[Claim] = []


def test_every_mutating_method_is_repeated_here() -> None:
    mutating = {
        name
        for name, method in inspect.getmembers(Store, inspect.isfunction)
        if "operation_id" in inspect.signature(method).parameters
    }

    assert {name.split()[0] for name in REPEATS} == mutating
    assert len(mutating) == 19


@pytest.mark.parametrize("name", list(REPEATS))
async def test_a_repeated_operation_gives_the_first_result_and_does_nothing(
    db: JobDb, db_url: str, name: str
) -> None:
    before, repeat, moves_on = REPEATS[name]
    call = uuid4()
    await before(db)

    first = await repeat(db, call)
    assert await repeat(db, call) == first
    await moves_on(db)
    rows = await db.get_recent_jobs()
    lengths = [len(await db.history(row.job_id)) for row in rows]

    assert await repeat(db, call) == first
    async with JobDb.open(db_url) as other:
        assert await repeat(other, call) == first
    async with db.transaction() as tx:
        assert await repeat(tx, call) == first
    assert await asyncio.gather(*(repeat(db, call) for _ in range(10))) == [first] * 10

    assert await db.get_recent_jobs() == rows
    assert [len(await db.history(row.job_id)) for row in rows] == lengths


@pytest.mark.parametrize("name", ["insert_job", "update_job", "cancel_job", "delete_job"])
async def test_an_operation_repeated_at_the_same_time_is_done_once(db: JobDb, name: str) -> None:
    before, repeat, _ = REPEATS[name]
    call = uuid4()
    await before(db)

    results = await asyncio.gather(*(repeat(db, call) for _ in range(20)))

    assert len(set(results)) == 1
    job_id = results[0] if name == "insert_job" else JOB
    assert isinstance(job_id, int)
    lines = [one for one in await db.history(job_id) if one.operation_id == call]
    assert len(lines) == 1
    assert await db.count_jobs() == (name != "delete_job")


async def _in_a_transaction(db: JobDb, call: UUID) -> object:
    async with db.transaction() as tx:
        before = await tx.insert_job(make_job(author="before"))
        job_id = await tx.insert_job(make_job(), operation_id=call)
        await tx.delete_job(before)
        return job_id


INSERTS: dict[str, Callable[[JobDb, UUID], Awaitable[object]]] = {
    "insert_job": lambda db, call: db.insert_job(make_job(), operation_id=call),
    "within": lambda db, call: db.insert_job(make_job(), max_active=999, operation_id=call),
    "insert_jobs": lambda db, call: db.insert_jobs([make_job()], operation_id=call),
    "transaction": _in_a_transaction,
}


@pytest.mark.parametrize("name", INSERTS)
async def test_an_insert_repeated_in_two_handles_at_once_is_done_once(
    db: JobDb, db_url: str, name: str
) -> None:
    async with JobDb.open(db_url) as other:
        for _ in range(20):
            call = uuid4()
            ids = await asyncio.gather(*(INSERTS[name](one, call) for one in (db, other) * 4))
            assert ids == ids[:1] * 8

    assert await db.count_jobs() == 20


@pytest.mark.parametrize("name", [name for name in REPEATS if name[:6] not in ("insert", "claim_")])
async def test_an_operation_that_two_handles_wait_with_is_done_once(
    db: JobDb, db_url: str, name: str
) -> None:
    """Both have begun before either is done, so neither saw the other as it began."""
    before, repeat, _ = REPEATS[name]
    call = uuid4()
    await before(db)
    async with JobDb.open(db_url) as other, JobDb.open(db_url) as third:
        async with third.transaction() as tx:
            await tx.update_job(JOB, current_step="held")
            calls = [asyncio.ensure_future(repeat(one, call)) for one in (db, other) * 2]
            await asyncio.sleep(0.3)
        results = await asyncio.gather(*calls)

        assert results == results[:1] * 4
        for row in await db.get_recent_jobs():
            done = [one for one in await db.history(row.job_id) if one.operation_id == call]
            assert len(done) <= 1


async def test_an_update_repeated_in_two_handles_at_once_is_done_once(
    db: JobDb, db_url: str
) -> None:
    await db.insert_job(make_job(job_id=JOB))
    async with JobDb.open(db_url) as other:
        for number in range(30):
            call = uuid4()
            await asyncio.gather(
                *(one.update_job(JOB, priority=number, operation_id=call) for one in (db, other))
            )

    assert len(await db.history(JOB)) == 1 + 30


async def test_twins_of_an_operation_do_not_hold_up_the_others(db_url: str) -> None:
    async with JobDb.open(db_url, outcome_timeout=5.0) as db:
        await db.init_schema()
        await db.insert_jobs(make_job(job_id=number) for number in range(1, 200))
        call = uuid4()
        others = [db.insert_job(make_job()) for _ in range(30)]
        twins = [db.insert_job(make_job(), operation_id=call) for _ in range(3)]

        ids = await asyncio.gather(*others, *twins)

        assert len(set(ids)) == 31
        assert len(set(ids[30:])) == 1
        assert await db.count_jobs() == 199 + 31


async def test_a_full_queue_answers_for_an_operation_that_was_done(db: JobDb) -> None:
    call = uuid4()
    first = await db.insert_job(make_job(), max_active=1, operation_id=call)

    assert await db.insert_job(make_job(), max_active=1, operation_id=call) == first
    with pytest.raises(QueueFull):
        await db.insert_job(make_job(), max_active=1, operation_id=uuid4())


async def test_a_refused_operation_may_be_repeated(db: JobDb) -> None:
    call = uuid4()
    with pytest.raises(NotFound):
        await db.archive_job(JOB, operation_id=call)
    await db.insert_job(make_job(job_id=JOB))

    await db.archive_job(JOB, operation_id=call)

    row = await db.get_job(JOB)
    assert row is not None
    assert row.archived


async def test_an_operation_id_is_a_uuid(db: JobDb) -> None:
    await db.insert_job(make_job(job_id=JOB))
    for name, (_, repeat, _) in REPEATS.items():
        for wrong in (str(uuid4()), 7, b"x" * 16):
            with pytest.raises(InvalidInput, match=r"operation_id is .* expected a uuid\.UUID"):
                await repeat(db, wrong)  # type: ignore[arg-type]
        assert await db.count_jobs() == 1, name


async def test_every_call_without_an_id_has_one_of_its_own(db: JobDb) -> None:
    ids = await asyncio.gather(*(db.insert_job(make_job()) for _ in range(100)))
    for _ in range(2):
        ids += await db.insert_jobs(make_job() for _ in range(50))  # consecutive ones

    operations = {(await db.history(job_id))[0].operation_id for job_id in ids}

    assert len(operations) == 200
    assert None not in operations


async def test_forty_nine_succeed_beside_one_that_is_refused(db: JobDb) -> None:
    ids = await db.insert_jobs(make_job() for _ in range(50))
    await db.delete_job(ids[20])

    outcomes = await asyncio.gather(
        *(db.update_stage(job_id, Stage.ENCODING) for job_id in ids), return_exceptions=True
    )

    assert [type(one) for one in outcomes] == [
        NotFound if n == 20 else type(None) for n in range(50)
    ]
    assert len(await db.get_jobs_by_stage(Stage.ENCODING)) == 49


REFUSES_BAD = {
    "sqlite": """
        CREATE TRIGGER no_bad BEFORE INSERT ON jobs WHEN NEW.author = 'bad'
        BEGIN SELECT RAISE(ABORT, 'no bad ones'); END;
    """,
    "postgres": """
        CREATE FUNCTION no_bad() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN IF NEW.author = 'bad' THEN RAISE 'no bad ones'; END IF; RETURN NEW; END $$;
        CREATE TRIGGER no_bad BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION no_bad();
    """,
}


async def test_a_row_that_the_engine_refuses_fails_alone(db: JobDb, raw: Raw) -> None:
    """Not foreseen by any check of ours: the whole statement or transaction is lost at first."""
    raw.script(REFUSES_BAD[db.dialect])

    outcomes = await asyncio.gather(
        *(db.insert_job(make_job(author="bad" if n in {7, 30} else "good")) for n in range(50)),
        return_exceptions=True,
    )

    refused = [n for n, one in enumerate(outcomes) if isinstance(one, PandoraDbError)]
    assert refused == [7, 30]
    assert "no bad ones" in str(outcomes[7])
    told = {one for one in outcomes if isinstance(one, int)}
    assert len(told) == 48
    assert {row.job_id for row in await db.get_active_jobs()} == told
    for job_id in told:
        assert len(await db.history(job_id)) == 1
    with pytest.raises(PandoraDbError, match="no bad ones"):
        await db.insert_jobs([make_job(), make_job(author="bad")])
    assert await db.count_jobs() == 48


async def test_a_crowd_of_different_calls_gets_each_its_own_answer(db: JobDb) -> None:
    known = await db.insert_job(make_job(external_id="run-1"))

    outcomes = await asyncio.gather(
        db.insert_job(make_job(external_id="run-1")),
        db.insert_job(make_job()),
        db.get_next_job_id(),
        db.cancel_job(known),
        db.get_job(404),
        db.archive_job(404),
        db.count_jobs(author="nobody"),
        return_exceptions=True,
    )

    kinds = [Duplicate, int, int, bool, type(None), NotFound, int]
    assert [type(one) for one in outcomes] == kinds
    assert outcomes[1] != outcomes[2]


async def test_a_call_that_is_cancelled_before_its_flush_is_withdrawn(db: JobDb) -> None:
    """Calls that wait behind a flush have touched nothing yet."""
    first = [asyncio.create_task(db.insert_job(make_job(author="stays"))) for _ in range(3)]
    gone = [asyncio.create_task(db.insert_job(make_job(author="goes"))) for _ in range(20)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for task in gone[5:]:
        task.cancel()

    outcomes = await asyncio.gather(*first, *gone, return_exceptions=True)

    told = {one for one in outcomes if isinstance(one, int)}
    assert sum(isinstance(one, asyncio.CancelledError) for one in outcomes) == 15
    assert {row.job_id for row in await db.get_active_jobs()} == told
    assert len(told) == 8


async def test_a_call_that_is_cancelled_at_any_moment_is_done_or_not(db: JobDb) -> None:
    for pause in range(12):
        calls = {uuid4(): f"author {pause} {n}" for n in range(4)}
        tasks = [
            asyncio.create_task(db.insert_job(make_job(author=author), operation_id=call))
            for call, author in calls.items()
        ]
        await asyncio.sleep(pause * 0.0004)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

        # Repeated, each is there once: the cancelled one was done, or it is done now.
        for call, author in calls.items():
            job_id = await db.insert_job(make_job(author=author), operation_id=call)
            assert [row.job_id for row in await db.get_user_history(author)] == [job_id]


async def test_the_queue_of_waiting_calls_is_bounded(db_url: str) -> None:
    async with JobDb.open(db_url, max_pending=4, max_batch=2) as db:
        longest = 0

        async def inserts() -> None:
            nonlocal longest
            await db.insert_job(make_job())
            longest = max(longest, *(lane.waiting for lane in lanes_of(db)))

        await asyncio.gather(*(inserts() for _ in range(200)))

        assert await db.count_jobs() == 200
        assert longest <= 4


async def test_a_full_queue_refuses_in_time(db_url: str) -> None:
    """With the writer held up, what finds no room hears of it; what waits is done later."""
    async with (
        JobDb.open(db_url, max_pending=5, acquire_timeout=0.3, lock_timeout=20.0) as db,
        JobDb.open(db_url) as other,
    ):
        await db.insert_job(make_job(job_id=JOB))
        async with other.transaction() as tx:
            await tx.update_job(JOB, priority=1)
            calls = [
                asyncio.create_task(db.update_job(JOB, priority=10 + n, guild_id=n))
                for n in range(30)
            ]
            done, _ = await asyncio.wait(calls, timeout=2, return_when=asyncio.FIRST_EXCEPTION)
            assert done
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        refused = [one for one in outcomes if one is not None]
        assert {type(one) for one in refused} == {PoolTimeout}
        assert "acquire_timeout" in str(refused[0])
        stored = sum(one.detail == "guild_id, priority" for one in await db.history(JOB))
        assert stored == outcomes.count(None) > 0


def lanes_of(db: JobDb) -> list[Any]:
    driver: Any = db._driver
    return list(driver._lanes.values() if db.dialect == "postgres" else driver._lanes)
