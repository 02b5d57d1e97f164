"""Putting jobs in, on both dialects: ids, keys, limits, crowds and bulk."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pandora_db import (
    Concat,
    Duplicate,
    EventKind,
    InvalidInput,
    Job,
    JobDb,
    NotFound,
    Preset,
    QueueFull,
    Stage,
)
from pandora_db.models.limits import MAX_ID, MAX_PARAMS
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from tests.support.raw import Raw

FULL_JOB = Job(
    author="mika ✓ 日本",
    link="https://videos.example/'; DROP TABLE jobs; --.mkv",
    preset=Preset.concat(Concat.SOME_SUBS),
    job_id=2**53 + 1,
    ready=Stage.DOWNLOADED,
    message_id=MAX_ID,
    channel_id=2**62 + 1,
    directory=Path("/srv/jobs/ä b"),
    requested_at=datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=UTC),
    author_id=2**63 - 2,
    guild_id=0,
    external_id="run-1-abc",
    idempotency_key="interaction 7",
    priority=-32767,
    config={"crf": 18, "big": 2**63 - 1, "small": 0.1, "texts": ["ü", ""], "none": None},
    name="ä reindex",
    tags=("gpu", "ä"),
    concurrency_key="disk 1",
    not_before=1_800_000_000.25,
    max_attempts=7,
    params=bytes(range(256)),
)


async def test_insert_job_stores_every_field(db: JobDb) -> None:
    before = datetime.now(UTC)

    job_id = await db.insert_job(FULL_JOB)

    row = await db.get_job(job_id)
    assert row is not None
    data = row.to_job_metadata()
    for field in set(Job.model_fields) - {"requested_at", "directory", "not_before"}:
        assert getattr(data, field) == getattr(FULL_JOB, field), field
    assert row.not_before == FULL_JOB.not_before
    assert data.requested_at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert data.directory == Path("/srv/jobs/ä b")
    assert (row.archived, row.completed_at, row.attempt, row.hold) == (False, None, 0, 0)
    assert row.created_at is not None
    assert row.updated_at is not None
    assert abs((row.created_at - before).total_seconds()) < 60
    assert abs((row.updated_at - before).total_seconds()) < 60


async def test_insert_job_needs_only_an_author(db: JobDb) -> None:
    job_id = await db.insert_job(Job(author="mika"))

    row = await db.get_job(job_id)
    assert row is not None
    assert abs(row.requested_at - datetime.now(UTC).timestamp()) < 60
    assert (row.link, row.directory, row.message_id, row.config) == ("", "", 0, None)


async def test_generated_ids_ascend_and_stay_exact_in_json(db: JobDb) -> None:
    ids = [await db.insert_job(make_job()) for _ in range(5)]

    assert ids == sorted(set(ids))
    assert all(0 < job_id < 2**53 for job_id in ids)


async def test_a_given_id_is_kept_and_taken_once(db: JobDb) -> None:
    for job_id in (0, 1, 2**53, MAX_ID):
        assert await db.insert_job(make_job(job_id=job_id, author="first")) == job_id

        with pytest.raises(Duplicate, match=rf"job_id {job_id} exists.*idempotency_key") as caught:
            await db.insert_job(make_job(job_id=job_id, author="second"))

        assert (caught.value.field, caught.value.value) == ("job_id", job_id)
        row = await db.get_job(job_id)
        assert row is not None
        assert row.author == "first"
        assert len(await db.history(job_id)) == 1


async def test_an_external_id_is_taken_once(db: JobDb) -> None:
    await db.insert_job(make_job(external_id="run-1"))

    with pytest.raises(Duplicate, match="external_id 'run-1'") as caught:
        await db.insert_job(make_job(external_id="run-1"))

    assert (caught.value.field, caught.value.value) == ("external_id", "run-1")
    assert await db.count_jobs() == 1


async def test_generated_ids_step_over_ids_that_others_took(db: JobDb) -> None:
    first = await db.insert_job(make_job())
    taken = {first + 1, *range(first + 3, first + 40)}
    for job_id in taken:
        await db.insert_job(make_job(job_id=job_id))

    fresh = await asyncio.gather(*(db.insert_job(make_job()) for _ in range(20)))
    bulk = await db.insert_jobs(make_job() for _ in range(20))

    assert len({*fresh, *bulk} - taken) == 40
    assert await db.count_jobs() == 1 + len(taken) + 40


async def test_the_second_insert_with_an_idempotency_key_returns_the_first_job(db: JobDb) -> None:
    first = await db.insert_job(make_job(idempotency_key="click", author="mika"))
    await db.update_stage(first, Stage.FAILED)
    await db.archive_job(first)

    again = await db.insert_job(make_job(idempotency_key="click", author="juno"))
    other = await db.insert_job(make_job(idempotency_key="another click"))

    assert again == first
    assert other != first
    row = await db.get_job(first)
    assert row is not None
    assert (row.author, row.ready) == ("mika", Stage.FAILED)
    assert await db.count_jobs() == 2


async def test_an_idempotency_key_holds_within_one_crowd(db: JobDb) -> None:
    ids = await asyncio.gather(
        *(db.insert_job(make_job(idempotency_key=f"key {n % 7}")) for n in range(70))
    )

    assert await db.count_jobs() == 7
    for n in range(7):
        assert len(set(ids[n::7])) == 1
    assert len(set(ids)) == 7


async def test_one_duplicate_in_a_crowd_fails_alone(db: JobDb) -> None:
    await db.insert_job(make_job(job_id=777))

    outcomes = await asyncio.gather(
        *(db.insert_job(make_job(job_id=777 if n == 25 else None)) for n in range(50)),
        return_exceptions=True,
    )

    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert isinstance(outcomes[25], Duplicate)
    assert failures == [outcomes[25]]
    stored = {row.job_id for row in await db.get_active_jobs()}
    assert stored == {777, *(outcome for outcome in outcomes if isinstance(outcome, int))}
    assert len(stored) == 50


async def test_max_active_refuses_when_the_queue_is_full(db: JobDb) -> None:
    first = await db.insert_job(make_job(), max_active=2)
    await db.insert_job(make_job(), max_active=2)

    with pytest.raises(QueueFull, match="2 or more jobs are active") as caught:
        await db.insert_job(make_job(), max_active=2)
    assert caught.value.limit == 2
    assert await db.get_queue_length() == 2

    await db.archive_job(first)
    await db.insert_job(make_job(), max_active=2)
    assert await db.get_queue_length() == 2


async def test_max_active_lets_exactly_so_many_through(db: JobDb, db_url: str) -> None:
    async with JobDb.open(db_url) as other:
        outcomes = await asyncio.gather(
            *(
                handle.insert_job(make_job(), max_active=5)
                for handle, _ in zip(itertools.cycle([db, other]), range(50), strict=False)
            ),
            return_exceptions=True,
        )

    assert sum(isinstance(outcome, int) for outcome in outcomes) == 5
    assert sum(isinstance(outcome, QueueFull) for outcome in outcomes) == 45
    assert await db.get_queue_length() == 5


async def test_a_full_queue_still_answers_for_a_known_key(db: JobDb) -> None:
    first = await db.insert_job(make_job(idempotency_key="click"), max_active=1)

    assert await db.insert_job(make_job(idempotency_key="click"), max_active=1) == first


async def test_an_absurd_max_active_is_refused(db: JobDb) -> None:
    limits: list[Any] = [0, -1, True, 1.5, "5", 2**63]
    for limit in limits:
        with pytest.raises(InvalidInput, match=r"max_active is .*expected an int from 1"):
            await db.insert_job(make_job(), max_active=limit)

    assert await db.count_jobs() == 0


async def test_insert_jobs_stores_all_in_order(db: JobDb) -> None:
    jobs = [make_job(author=f"author {n}", requested_at=n) for n in range(1500)]
    jobs[700] = make_job(author="author 700", job_id=5, requested_at=700)

    ids = await db.insert_jobs(jobs)

    assert len(set(ids)) == 1500
    assert ids[700] == 5
    rows = await db.get_jobs_by_ids(ids)
    assert [row.author for row in rows] == [f"author {n}" for n in range(1500)]
    events = await db.history(ids[3])
    assert [(event.seq, event.kind) for event in events] == [(1, EventKind.INSERTED)]
    assert events[0].operation_id is not None
    assert await db.insert_job(make_job()) not in ids


@pytest.mark.parametrize("job_id", [77, None])
async def test_insert_jobs_reads_back_like_insert_job(db: JobDb, job_id: int | None) -> None:
    """COPY and the statements take the same job to the same row."""
    bare = FULL_JOB.model_copy(update={"external_id": None, "idempotency_key": None})
    (bulk_id,) = await db.insert_jobs([bare])
    single_id = await db.insert_job(bare.model_copy(update={"job_id": job_id}))

    bulk, single = await db.get_jobs_by_ids([bulk_id, single_id])
    unlike = {"job_id", "created_at", "updated_at"}
    for field in set(bulk._fields) - unlike:
        assert getattr(bulk, field) == getattr(single, field), field
    assert bulk.created_at is not None
    assert bulk.updated_at is not None


@pytest.mark.parametrize("bulk", [False, True], ids=["crowd", "bulk"])
async def test_what_only_some_jobs_have_stays_with_those(db: JobDb, bulk: bool) -> None:
    bare = [make_job(author=f"author {n}") for n in range(60)]
    full = FULL_JOB.model_copy(update={"job_id": None})
    named = make_job(author="named", name="encode", tags=("gpu",), guild_id=7)

    for jobs in (bare, [*bare[:30], full, *bare[30:], named], bare):
        if bulk:
            ids = await db.insert_jobs(jobs)
        else:
            ids = await asyncio.gather(*map(db.insert_job, jobs))
        for row, job in zip(await db.get_jobs_by_ids(ids), jobs, strict=True):
            data = row.to_job_metadata()
            assert row.not_before == job.not_before
            unlike = {"job_id", "requested_at", "directory", "not_before"}
            for field in set(Job.model_fields) - unlike:
                assert getattr(data, field) == getattr(job, field), field


async def test_insert_jobs_of_nothing_is_nothing(db: JobDb) -> None:
    assert await db.insert_jobs([]) == []


@pytest.mark.parametrize("keyed", [False, True])
async def test_insert_jobs_is_all_or_nothing(db: JobDb, keyed: bool) -> None:
    await db.insert_job(make_job(job_id=50))
    jobs = [make_job(job_id=n) for n in range(40, 60)]
    jobs[0] = make_job(job_id=40, external_id="run-1" if keyed else None)

    with pytest.raises(Duplicate, match="job_id 50"):
        await db.insert_jobs(jobs)

    assert [row.job_id for row in await db.get_active_jobs()] == [50]
    assert await db.history(45) == []


@pytest.mark.parametrize("keyed", [False, True])
async def test_insert_jobs_refuses_an_id_given_twice(db: JobDb, keyed: bool) -> None:
    extra = [make_job(external_id="run-1")] if keyed else []

    with pytest.raises(Duplicate, match="job_id 8"):
        await db.insert_jobs([make_job(job_id=7), make_job(job_id=8), make_job(job_id=8), *extra])

    assert await db.count_jobs() == 0


async def test_insert_jobs_refuses_an_external_id_given_twice(db: JobDb) -> None:
    with pytest.raises(Duplicate, match="external_id 'run-1'"):
        await db.insert_jobs([make_job(external_id="run-1"), make_job(external_id="run-1")])

    assert await db.count_jobs() == 0


async def test_insert_jobs_answers_for_known_keys(db: JobDb) -> None:
    known = await db.insert_job(make_job(idempotency_key="a"))

    ids = await db.insert_jobs(
        [make_job(idempotency_key="a"), make_job(), make_job(idempotency_key="b")]
    )

    assert ids[0] == known
    assert len({*ids, known}) == 3
    assert await db.count_jobs() == 3


async def test_insert_jobs_does_not_generate_what_another_job_of_the_call_is_given(
    db: JobDb,
) -> None:
    reserved = await db.get_next_job_id()
    given = reserved + 2

    ids = await db.insert_jobs([make_job(), make_job(), make_job(job_id=given), make_job()])

    assert ids[2] == given
    assert len(set(ids)) == 4


async def test_get_next_job_id_never_gives_a_number_twice(db: JobDb, db_url: str) -> None:
    async with JobDb.open(db_url) as second, JobDb.open(db_url) as third:
        handles = itertools.cycle([db, second, third])
        ids = await asyncio.gather(
            *(next(handles).get_next_job_id() for _ in range(1000)),
            *(next(handles).insert_job(make_job()) for _ in range(100)),
        )

    assert len(set(ids)) == 1100


async def test_get_next_job_id_survives_a_transaction_that_is_rolled_back(db: JobDb) -> None:
    given: list[int] = []

    async def draws() -> None:
        async with db.transaction() as tx:
            given.extend([await tx.get_next_job_id() for _ in range(3)])
            given.append(await tx.insert_job(make_job()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await draws()

    given += [await db.get_next_job_id() for _ in range(5)]
    given += await db.insert_jobs(make_job() for _ in range(5))
    assert len(set(given)) == 14


async def test_get_next_job_id_steps_over_a_run_of_taken_ids(db: JobDb) -> None:
    last = await db.get_next_job_id()
    await db.insert_jobs(make_job(job_id=n) for n in range(last + 1, last + 2001))

    fresh = await db.get_next_job_id()

    assert fresh > last + 2000
    with pytest.raises(NotFound):
        await db.archive_job(fresh)
    assert await db.insert_job(make_job(job_id=fresh)) == fresh


async def test_get_next_job_id_reserves_against_bulk_inserts(db: JobDb) -> None:
    reserved = [await db.get_next_job_id() for _ in range(3)]
    bulk = await db.insert_jobs(make_job() for _ in range(100))

    assert not set(reserved) & set(bulk)


async def test_a_foreign_row_with_a_high_id_does_not_stop_generated_ids(
    db: JobDb, raw: Raw
) -> None:
    raw("INSERT INTO jobs (job_id, author, ready) VALUES (%s, 'x', 0)", MAX_ID)

    assert await db.insert_job(make_job()) < 2**53


PARAMS = (b"", b"\0", bytes(range(256)), b"\\x41\t\n\\N", b"x" * MAX_PARAMS, None)


async def params_of(db: JobDb, ids: list[int]) -> list[bytes | None]:
    return [job.params for job in await db.get_jobs_by_ids(ids)]


async def test_params_are_kept_byte_for_byte_on_every_way_in(db: JobDb) -> None:
    jobs = [make_job(params=params) for params in PARAMS]
    keyed = [job.model_copy(update={"idempotency_key": f"k{n}"}) for n, job in enumerate(jobs)]

    alone = [await db.insert_job(job) for job in jobs]
    crowd = await asyncio.gather(*(db.insert_job(job) for job in jobs * 3))
    loaded = await db.insert_jobs(jobs)
    each = await db.insert_jobs(keyed)
    limited = [await db.insert_job(job, max_active=1000) for job in jobs]
    async with db.transaction() as tx:
        inside = [await tx.insert_job(jobs[2]), *await tx.insert_jobs(jobs[2:4])]

    for ids in (alone, loaded, each, limited):
        assert await params_of(db, ids) == list(PARAMS)
    assert await params_of(db, crowd) == list(PARAMS * 3)
    assert await params_of(db, inside) == [PARAMS[2], *PARAMS[2:4]]


async def test_params_come_with_the_claim_and_stay_as_they_are(db: JobDb) -> None:
    job_id = await db.insert_job(make_job(params=b"\x81\xa1a\x01"))

    (claim,) = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING)

    assert claim.job.params == b"\x81\xa1a\x01"
    with pytest.raises(InvalidInput, match="params"):
        await db.update_job(job_id, params=b"other")  # type: ignore[call-arg]
    await db.finish_job(claim, Stage.UPLOADED)
    await db.retry_job(job_id)
    row = await db.get_job(job_id)
    assert row is not None
    assert row.params == b"\x81\xa1a\x01"
    metadata = row.to_job_metadata()
    assert metadata.params == row.params
    assert '"params":"gaFhAQ=="' in metadata.model_dump_json()
    assert "params" not in repr(metadata)
