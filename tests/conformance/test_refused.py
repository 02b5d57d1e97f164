"""What another program put in the way is told, and never waited for."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

import pytest

from pandora_db import Job, Stage
from pandora_db.errors import Duplicate, InvalidInput, WriteRefused
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from pandora_db import JobDb

IGNORES = {
    "sqlite": "CREATE TRIGGER mine BEFORE UPDATE ON jobs BEGIN SELECT RAISE(IGNORE); END",
    "postgres": """
        CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER mine BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION mine();
    """,
}


async def test_a_unique_index_of_somebody_else_refuses_an_insert(
    db: JobDb, raw: Callable[..., list[tuple[object, ...]]]
) -> None:
    await db.insert_job(Job(author="a", message_id=7))
    raw("CREATE UNIQUE INDEX mine ON jobs (message_id)")

    with pytest.raises(WriteRefused, match="unique index"):
        await db.insert_job(Job(author="b", message_id=7))
    with pytest.raises(WriteRefused):
        await db.insert_job(Job(author="b", job_id=500, message_id=7))

    assert await db.count_jobs() == 1
    assert await db.get_next_job_id() < 100


@pytest.mark.parametrize(
    "call",
    [
        lambda db, job_id: db.update_job(job_id, author_id=2),
        lambda db, job_id: db.archive_job(job_id),
        lambda db, job_id: db.update_stage(job_id, Stage.DOWNLOADING),
        lambda db, job_id: db.cancel_job(job_id),
    ],
    ids=["update_job", "archive_job", "update_stage", "cancel_job"],
)
async def test_a_trigger_that_swallows_writes_is_no_success(
    db: JobDb,
    dialect: str,
    raw: Callable[..., list[tuple[object, ...]]],
    call: Callable[..., object],
) -> None:
    job_id = await db.insert_job(make_job())
    raw(IGNORES[dialect])

    with pytest.raises(WriteRefused, match="trigger"):
        await call(db, job_id)  # type: ignore[misc]
    assert await db.get_jobs(author_id=2) == []


SWALLOWS = {
    "sqlite": """
        CREATE TRIGGER others BEFORE INSERT ON jobs WHEN NEW.author = 'bad'
        BEGIN SELECT RAISE(IGNORE); END
    """,
    "postgres": """
        CREATE FUNCTION others() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN IF NEW.author = 'bad' THEN RETURN NULL; END IF; RETURN NEW; END $$;
        CREATE TRIGGER others BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION others()
    """,
}


DOUBLES = {
    "sqlite": """
        CREATE TRIGGER others AFTER INSERT ON jobs WHEN NEW.author = 'bad'
        BEGIN INSERT INTO jobs (job_id, author) VALUES (NEW.job_id, 'again'); END
    """,
    "postgres": """
        CREATE FUNCTION others() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF NEW.author = 'bad' THEN
                INSERT INTO jobs (job_id, author) VALUES (NEW.job_id, 'again');
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER others AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION others()
    """,
}


async def test_a_trigger_that_takes_every_id_again_is_not_waited_for(
    db: JobDb, dialect: str, raw: Callable[..., list[tuple[object, ...]]]
) -> None:
    raw(DOUBLES[dialect])

    with pytest.raises(Duplicate):
        await db.insert_jobs([Job(author="bad")])

    assert await db.count_jobs() == 0


@pytest.mark.parametrize("given", [False, True])
async def test_a_bulk_insert_of_which_a_trigger_swallows_some_stores_nothing(
    db: JobDb, dialect: str, raw: Callable[..., list[tuple[object, ...]]], given: bool
) -> None:
    raw(SWALLOWS[dialect])
    jobs = [
        Job(author=author, job_id=number * 7 if given else None)
        for number, author in enumerate(["ok", "bad", "ok"], 1)
    ]

    with pytest.raises(WriteRefused, match="of 3 jobs 2 were stored"):
        await db.insert_jobs(jobs)

    assert await db.count_jobs() == 0


async def test_a_bulk_insert_refuses_what_was_smuggled_past_the_checks(db: JobDb) -> None:
    for wrong in ({"author": "\ud800"}, {"job_id": 2**63}, {"priority": 10**30}):
        smuggled = Job.model_construct(**{**Job(author="a").model_dump(), **wrong})
        with pytest.raises(InvalidInput):
            await db.insert_jobs([Job(author="ok"), smuggled])

    assert await db.count_jobs() == 0


async def test_an_operation_id_serves_one_call_only(db: JobDb) -> None:
    operation = uuid4()
    job_id = await db.insert_job(make_job(), operation_id=operation)

    with pytest.raises(InvalidInput, match="another call"):
        await db.update_stage(job_id, Stage.DOWNLOADED, operation_id=operation)
    with pytest.raises(InvalidInput, match="another call"):
        await db.update_job(job_id, error="x", operation_id=operation)

    row = await db.get_job(job_id)
    assert row is not None
    assert (row.ready, row.error) == (Stage.QUEUED, None)


async def test_ids_that_others_number_are_stepped_over(db: JobDb) -> None:
    first = await db.get_next_job_id()
    await db.insert_jobs(Job(author="own", job_id=first + n) for n in range(2, 202))

    ids = await db.insert_jobs([Job(author="a"), Job(author="b")])

    assert len(set(ids)) == 2
    assert not set(ids) & set(range(first + 2, first + 202))


@pytest.mark.parametrize(
    "fields",
    [{"author": "\ud800"}, {"author": "bad", "priority": Decimal("sNaN")}, {"link": "no author"}],
    ids=["not text", "not comparable", "no author"],
)
async def test_one_bad_call_leaves_the_crowd_alone(db: JobDb, fields: dict[str, object]) -> None:
    bad = Job.model_construct(**fields)  # type: ignore[arg-type]  # past its checks

    outcomes = await asyncio.gather(
        *(db.insert_job(bad if n == 7 else make_job(author="good")) for n in range(20)),
        return_exceptions=True,
    )

    assert isinstance(outcomes[7], InvalidInput)
    assert sum(isinstance(one, int) for one in outcomes) == 19


class Reindex(Job):
    """What is a field of other jobs is the same for all of these."""

    name: ClassVar[str] = "reindex"  # type: ignore[misc]


async def test_what_a_subclass_says_for_all_of_its_jobs_is_stored(db: JobDb) -> None:
    jobs = [Reindex(author="a") if n == 7 else make_job() for n in range(20)]

    crowd = await asyncio.gather(*map(db.insert_job, jobs))
    bulk = await db.insert_jobs(jobs)

    for ids in (crowd, bulk):
        assert [row.name for row in await db.get_jobs_by_ids(ids)].index("reindex") == 7


async def test_a_crowd_with_a_known_id_answers_each_by_itself(db: JobDb) -> None:
    first = await db.insert_job(make_job(idempotency_key="known"))
    jobs = [make_job() for _ in range(20)]
    jobs[3] = make_job(idempotency_key="known")
    jobs[9] = make_job(job_id=first)

    outcomes = await asyncio.gather(*map(db.insert_job, jobs), return_exceptions=True)

    assert outcomes[3] == first
    assert isinstance(outcomes[9], Duplicate)
    assert len({one for one in outcomes if isinstance(one, int)}) == 19
    assert await db.count_jobs() == 19


async def test_a_crowd_of_reads_gives_each_its_own(db: JobDb) -> None:
    ids = await db.insert_jobs(make_job() for _ in range(30))

    rows = await asyncio.gather(*(db.get_job(job_id) for job_id in [*ids, *ids, 10**9]))

    assert [row and row.job_id for row in rows] == [*ids, *ids, None]


async def test_iteration_takes_no_offset(db: JobDb) -> None:
    with pytest.raises(InvalidInput, match="offset"):
        [row async for row in db.iter_jobs(offset=2)]  # type: ignore[call-arg]


async def test_a_handle_belongs_to_its_loop(db: JobDb) -> None:
    from pandora_db.errors import HandleClosed

    with pytest.raises(HandleClosed, match="another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(db.insert_job(make_job(author="elsewhere"))))

    assert await db.count_jobs(author="elsewhere") == 0


async def test_a_renamed_stage_is_a_difference(
    db: JobDb, raw: Callable[..., list[tuple[object, ...]]]
) -> None:
    raw("UPDATE stages SET name = 'Foo' WHERE code = 4")

    (difference,) = await db.verify_schema()

    assert (difference.kind, difference.name, difference.found) == ("stage", "4", "Foo")
