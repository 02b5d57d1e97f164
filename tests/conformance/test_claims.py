"""Claiming jobs: order, filters, limits and the token, on both dialects."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from contextlib import suppress
from itertools import chain, count
from typing import Any
from uuid import uuid4

import pytest

from pandora_db import (
    Claim,
    EventKind,
    Hold,
    InvalidInput,
    JobDb,
    LeaseLost,
    Limits,
    NotFound,
    Stage,
    StatementTimeout,
)
from pandora_db.testing import insert_job_at, make_job
from tests.support.raw import Raw
from tests.support.waiting import wait_until

DOWNLOAD: dict[str, Any] = {"stage": Stage.QUEUED, "into": Stage.DOWNLOADING}


async def ids_of(db: JobDb, **arguments: Any) -> list[int]:
    return [claim.job_id for claim in await db.claim_jobs(**DOWNLOAD | arguments)]


async def test_claim_jobs_takes_jobs_in_the_order_of_the_queue(db: JobDb) -> None:
    late = await db.insert_job(make_job(requested_at=200))
    early = await db.insert_job(make_job(requested_at=100))
    twin = await db.insert_job(make_job(requested_at=100))
    urgent = await db.insert_job(make_job(requested_at=300, priority=10))
    last = await db.insert_job(make_job(requested_at=1, priority=-10))

    assert await ids_of(db, limit=2) == [urgent, early]
    assert await ids_of(db, limit=10) == [twin, late, last]
    assert await ids_of(db, limit=10) == []


async def test_claim_jobs_tells_what_it_took(db: JobDb) -> None:
    job_id = await db.insert_job(make_job(author="mika", config={"crf": 21}))

    (claim,) = await db.claim_jobs(**DOWNLOAD)

    row = await db.get_job(job_id)
    assert claim.job == row
    assert (claim.job_id, claim.stage, claim.attempt) == (job_id, Stage.DOWNLOADING, 1)
    assert (row.ready, row.attempt) == (Stage.DOWNLOADING, 1)
    assert claim.owner == db.owner
    assert (claim.lost, claim.ended, claim.hold) == (False, False, Hold.NONE)
    event = (await db.history(job_id))[-1]
    assert (event.kind, event.owner, event.attempt) == (EventKind.CLAIMED, db.owner, 1)
    assert (event.previous, event.stage) == (Stage.QUEUED, Stage.DOWNLOADING)
    assert str(job_id) in repr(claim)


async def test_every_claim_has_another_token(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())
    tokens = []
    for _ in range(5):
        (claim,) = await db.claim_jobs(**DOWNLOAD)
        tokens.append(claim.token)
        await db.release_job(claim)

    assert tokens == sorted(set(tokens))
    row = await db.get_job(job_id)
    assert row is not None
    assert row.attempt == 0


async def test_no_two_callers_get_the_same_job(db: JobDb, db_url: str) -> None:
    ids = await db.insert_jobs(make_job() for _ in range(300))
    async with JobDb.open(db_url, sweep=None) as other:

        async def drain(one: JobDb, limit: int) -> list[int]:
            taken: list[int] = []
            while found := await ids_of(one, limit=limit):
                taken += found
            return taken

        found = await asyncio.gather(
            *(drain(one, limit) for one in (db, other) for limit in (1, 3, 7, 20))
        )

    assert sorted(chain.from_iterable(found)) == ids


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, {"plain", "named", "theirs", "guild"}),
        ({"names": ["copy", "x"]}, {"named"}),
        ({"author": "kofi"}, {"theirs"}),
        ({"author": 77}, {"theirs"}),
        ({"guild_id": 9}, {"guild"}),
        ({"job_type": 1}, {"plain", "named", "theirs", "guild"}),
        ({"tags": ["gpu"]}, {"plain", "named", "theirs", "guild", "gpu"}),
        ({"tags": ["disk", "gpu"]}, {"plain", "named", "theirs", "guild", "gpu", "both"}),
        ({"tags": ["disk"], "guild_id": 9}, {"guild"}),
        ({"names": ["copy"], "guild_id": 9}, set()),
    ],
)
async def test_claim_jobs_filters(db: JobDb, filters: dict[str, Any], expected: set[str]) -> None:
    jobs = {
        "plain": make_job(),
        "named": make_job(name="copy"),
        "theirs": make_job(author="kofi", author_id=77),
        "guild": make_job(guild_id=9),
        "gpu": make_job(tags=["gpu"]),
        "both": make_job(tags=["gpu", "disk"]),
    }
    names = {await db.insert_job(job): name for name, job in jobs.items()}

    assert {names[job_id] for job_id in await ids_of(db, limit=10, **filters)} == expected


async def test_a_job_waits_for_its_time(db: JobDb, raw: Raw) -> None:
    job_id = await db.insert_job(make_job(not_before=4_000_000_000))
    assert await ids_of(db) == []
    assert await db.claim_job(job_id, into=Stage.DOWNLOADING) is None

    await db.update_job(job_id, not_before=1_000_000_000.5)

    assert await ids_of(db) == [job_id]


async def test_held_and_archived_jobs_are_passed_over(db: JobDb) -> None:
    paused = await db.insert_job(make_job())
    await db.pause_job(paused)
    await db.archive_job(await db.insert_job(make_job()))

    assert await ids_of(db, limit=5) == []
    await db.resume_job(paused)
    assert await ids_of(db, limit=5) == [paused]


async def test_claim_job_takes_one_by_its_id(db: JobDb) -> None:
    first = await db.insert_job(make_job())
    second = await db.insert_job(make_job(tags=["gpu"], name="copy"))

    claim = await db.claim_job(second, into=Stage.ENCODING)

    assert isinstance(claim, Claim)
    assert (claim.job_id, claim.job.ready) == (second, Stage.ENCODING)
    assert await db.claim_job(second, into=Stage.ENCODING) is None
    await db.update_stage(first, Stage.UPLOADED)
    assert await db.claim_job(first, into=Stage.DOWNLOADING) is None
    with pytest.raises(NotFound):
        await db.claim_job(404, into=Stage.DOWNLOADING)


async def test_claim_job_waits_for_a_row_that_somebody_changes(db: JobDb, db_url: str) -> None:
    job_id = await db.insert_job(make_job())
    async with JobDb.open(db_url, sweep=None) as other:
        async with other.transaction() as tx:
            await tx.update_job(job_id, priority=1)
            claiming = asyncio.create_task(db.claim_job(job_id, into=Stage.DOWNLOADING))
            await asyncio.sleep(0.1)
            assert not claiming.done()

        claim = await claiming
    assert claim is not None
    assert claim.job.priority == 1


LIMITS = [
    (Limits(stage=3), 3),
    (Limits(author=1), 4),
    (Limits(author=2), 6),
    (Limits(guild=1), 4),
    (Limits(concurrency_key=1), 9),
    (Limits(author=1, guild=1), 4),
    (Limits(author=1, stage=2), 2),
    (Limits(), 12),
]


async def busy_queue(db: JobDb) -> None:
    """12 jobs: of authors A (6), B (4), C and D (1 each); in two guilds (5 each) and none (2)."""
    for number, author in enumerate("AAAAAABBBBCD"):
        await db.insert_job(
            make_job(
                author=f"{author} by name {number}",
                author_id=ord(author),
                guild_id=None if author in "CD" else number % 2,
                concurrency_key="one" if number < 4 else None,
            )
        )


@pytest.mark.parametrize(("limits", "most"), LIMITS)
async def test_limits_hold_over_all_workers(
    db: JobDb, db_url: str, limits: Limits, most: int
) -> None:
    await busy_queue(db)
    async with JobDb.open(db_url, sweep=None) as other:
        found = await asyncio.gather(
            *(one.claim_jobs(**DOWNLOAD, limit=limit, limits=limits)
              for one in (db, other) * 4 for limit in (1, 2, 5))
        )  # fmt: skip
        claims = list(chain.from_iterable(found))
        claims += await db.claim_jobs(**DOWNLOAD, limit=20, limits=limits)

        _within(claims, limits)
        assert len(claims) == most
        first = min(claims, key=lambda claim: claim.job_id)
        claims.remove(first)
        await db.finish_job(first, Stage.DOWNLOADED)
        again = await other.claim_jobs(**DOWNLOAD, limit=20, limits=limits)
        _within(claims + again, limits)
        assert len(again) == (most < 12)


def _within(claims: list[Claim], limits: Limits) -> None:
    for most, key in (
        (limits.stage, lambda _: "all"),
        (limits.author, lambda job: job.author_id),
        (limits.guild, lambda job: job.guild_id),
        (limits.concurrency_key, lambda job: job.concurrency_key),
    ):
        counts = Counter(key(claim.job) for claim in claims)
        counts.pop(None, 0)
        assert most is None or max(counts.values(), default=0) <= most


async def test_limits_look_beyond_those_who_are_full(db: JobDb) -> None:
    await db.insert_jobs(make_job(author="greedy") for _ in range(1_200))
    last = await db.insert_job(make_job(author="patient", requested_at=4_000_000_000))

    ids = await ids_of(db, limit=5, limits=Limits(author=1))

    assert len(ids) == 2
    assert ids[-1] == last


async def with_a_cursor_on(db: JobDb, count: int) -> None:
    """Claim some jobs, as if the head of the queue had been found to cost much time."""
    await db.claim_jobs(**DOWNLOAD, limit=count)
    (cursor,) = db._leases._cursors.values()
    cursor.judge(head=5.0, behind=0.001)
    cursor._due = asyncio.get_running_loop().time() + 100


async def test_claims_go_on_behind_the_last_one_and_look_at_the_head_when_that_is_not_enough(
    db: JobDb,
) -> None:
    ids = await db.insert_jobs(make_job(requested_at=100 + n) for n in range(10))
    await with_a_cursor_on(db, 3)
    before = await db.insert_job(make_job(requested_at=50))

    assert await ids_of(db, limit=2) == ids[3:5]
    assert await ids_of(db, limit=7) == [before, *ids[5:]]
    assert await ids_of(db) == []


async def test_an_answer_that_is_lost_in_the_second_round_gives_no_job_twice(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found again with what the first round took."""
    ids = await db.insert_jobs(make_job() for _ in range(5))
    await with_a_cursor_on(db, 2)
    driver: Any = db._driver
    take = type(driver).take

    async def lost(name: str, args: Any, when: Any = frozenset(), **options: Any) -> Any:
        rows = await take(driver, name, args, when, **options)
        if name == "claim_jobs" and "after" not in when:
            return await driver.read("find_claims", args)
        return rows

    monkeypatch.setattr(driver, "take", lost)
    assert await ids_of(db, limit=9) == ids[2:]


async def test_an_error_in_the_second_round_keeps_what_the_first_took(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await db.insert_jobs(make_job() for _ in range(5))
    await with_a_cursor_on(db, 2)
    driver: Any = db._driver
    take = type(driver).take

    async def failing(name: str, args: Any, when: Any = frozenset(), **options: Any) -> Any:
        if name == "claim_jobs" and "after" not in when:
            raise StatementTimeout("too long")
        return await take(driver, name, args, when, **options)

    monkeypatch.setattr(driver, "take", failing)
    assert await ids_of(db, limit=9) == ids[2:]
    with pytest.raises(StatementTimeout):
        await db.claim_jobs(**DOWNLOAD)


async def test_filters_by_author_leave_nothing_behind(db: JobDb) -> None:
    for author in range(30):
        await db.claim_jobs(**DOWNLOAD, author=author)
    await db.claim_jobs(**DOWNLOAD)

    assert len(db._leases._cursors) == 1


BAD: list[tuple[dict[str, Any], str]] = [
    ({"stage": Stage.DOWNLOADING}, "stage is Stage.DOWNLOADING, where no job waits"),
    ({"stage": Stage.FAILED}, "expected one of Stage.QUEUED, Stage.DOWNLOADED, Stage.ENCODED"),
    ({"stage": 42}, "stage 42 is unknown"),
    ({"into": Stage.DOWNLOADED}, "into is Stage.DOWNLOADED, where nobody works"),
    (
        {"into": Stage.UPLOADED},
        "expected one of Stage.DOWNLOADING, Stage.ENC",
    ),
    (
        {"stage": Stage.ENCODED, "into": Stage.ENCODING},
        "no way from Stage.ENCODED into Stage.ENCODING",
    ),
    ({"limit": 0}, "limit is 0; expected an int from 1 to 1000"),
    ({"limit": 1001}, "limit is 1001"),
    ({"limit": True}, "limit is True"),
    ({"lease": 10.0}, "lease is 10 s; expected more than heartbeat, which is 10 s"),
    ({"lease": "30"}, "lease is a text"),
    ({"lease": float("nan")}, "lease is nan"),
    ({"names": "copy"}, "names is a text of 4 characters; expected several names"),
    ({"names": (str(n) for n in count())}, "names has more than 1,000"),
    ({"names": []}, "names has none; expected 1 to 1,000 names"),
    ({"names": ["a\0"]}, "names is text with a NUL"),
    ({"tags": "gpu"}, "tags is a text of 3 characters"),
    ({"tags": [1]}, "tags is 1"),
    ({"job_type": 99}, "job_type 99 is unknown"),
    ({"guild_id": -1}, "guild_id is -1"),
    ({"author": ""}, "author is an empty text"),
    ({"limits": {"stage": 1}}, "limits is a value of type dict; expected Limits"),
    ({"operation_id": "x"}, "operation_id is a text"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
async def test_claim_jobs_refuses(
    db: JobDb, raw: Raw, arguments: dict[str, Any], message: str
) -> None:
    await db.insert_job(make_job())
    before = raw("SELECT * FROM jobs")

    with pytest.raises(InvalidInput) as caught:
        await db.claim_jobs(**DOWNLOAD | arguments)

    assert message in str(caught.value)
    assert raw("SELECT * FROM jobs") == before


async def test_limits_are_checked() -> None:
    with pytest.raises(InvalidInput, match="author is 0; expected an int from 1"):
        Limits(author=0)
    with pytest.raises(InvalidInput, match="did you mean author"):
        Limits(autor=1)  # type: ignore[call-arg]


async def test_a_claim_made_in_a_transaction_counts_from_its_commit(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())
    with suppress(ZeroDivisionError):
        async with db.transaction() as tx:
            (gone,) = await tx.claim_jobs(**DOWNLOAD)
            raise ZeroDivisionError
    assert gone.lost
    async with db.transaction() as tx:
        (claim,) = await tx.claim_jobs(**DOWNLOAD)
        await tx.update_job(claim, progress=0.5)

    assert gone.token != claim.token
    assert claim.job_id == job_id
    with pytest.raises(LeaseLost):
        await db.update_job(gone, progress=1)
    assert await db.renew_claims([claim]) == [claim]
    await db.finish_job(claim, Stage.DOWNLOADED)


async def test_claim_jobs_is_repeated_by_its_operation(db: JobDb) -> None:
    await db.insert_jobs(make_job() for _ in range(5))
    call = uuid4()

    first = await db.claim_jobs(**DOWNLOAD, limit=2, operation_id=call)
    again = await db.claim_jobs(**DOWNLOAD, limit=2, operation_id=call)

    assert [one.token for one in again] == [one.token for one in first]
    assert await db.stage_counts() == {Stage.QUEUED: 3, Stage.DOWNLOADING: 2}


@pytest.mark.parametrize("within", [None, Limits(stage=1_000)], ids=["free", "limited"])
async def test_a_claim_repeated_in_two_handles_at_once_is_made_once(
    db: JobDb, db_url: str, within: Limits | None
) -> None:
    rounds = 10
    ids = await db.insert_jobs(make_job() for _ in range(6 * rounds))
    async with JobDb.open(db_url, sweep=None) as other:
        for number in range(rounds):
            call, job_id = uuid4(), ids[-1 - number]
            many = [
                one.claim_jobs(**DOWNLOAD, limit=2, limits=within, operation_id=call)
                for one in (db, other) * 3
            ]
            tokens = [sorted(one.token for one in claims) for claims in await asyncio.gather(*many)]
            assert tokens == tokens[:1] * 6

            call = uuid4()
            one_job = [
                one.claim_job(job_id, into=Stage.DOWNLOADING, operation_id=call)
                for one in (db, other) * 3
            ]
            claims = await asyncio.gather(*one_job)
            assert {claim and claim.job_id for claim in claims} == {job_id}

    assert (await db.stage_counts())[Stage.DOWNLOADING] == 3 * rounds


async def test_what_a_cancelled_claim_took_is_not_taken_from_who_repeats_it(db: JobDb) -> None:
    await db.insert_jobs(make_job() for _ in range(60))
    for number in range(30):
        call = uuid4()
        with suppress(TimeoutError):
            async with asyncio.timeout(number % 10 / 1000):
                await db.claim_jobs(**DOWNLOAD, limit=2, operation_id=call)
        claims = await db.claim_jobs(**DOWNLOAD, limit=2, operation_id=call)
        await asyncio.sleep(0.02)
        assert await db.renew_claims(claims) == claims
        assert len(claims) == 2


async def test_a_repeated_claim_never_gets_what_somebody_else_has_claimed_since(
    db: JobDb, db_url: str
) -> None:
    await db.insert_job(make_job())
    call = uuid4()
    (first,) = await db.claim_jobs(**DOWNLOAD, operation_id=call)
    await db.release_job(first)
    async with JobDb.open(db_url, sweep=None) as other:
        (theirs,) = await other.claim_jobs(**DOWNLOAD)

        assert await db.claim_jobs(**DOWNLOAD, operation_id=call) == []
        assert await other.renew_claims([theirs]) == [theirs]


async def test_a_repeated_claim_is_none_after_an_override(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())
    call = uuid4()
    await db.claim_jobs(**DOWNLOAD, operation_id=call)
    await db.update_stage(job_id, Stage.DOWNLOADING)

    assert await db.claim_jobs(**DOWNLOAD, operation_id=call) == []
    assert await db.claim_job(job_id, into=Stage.DOWNLOADING, operation_id=call) is None


async def test_an_operation_of_one_job_claims_no_other(db: JobDb) -> None:
    one, other = await db.insert_jobs([make_job(), make_job()])
    call = uuid4()
    assert await db.claim_job(one, into=Stage.DOWNLOADING, operation_id=call) is not None

    with pytest.raises(InvalidInput, match="was used on another job"):
        await db.claim_job(other, into=Stage.DOWNLOADING, operation_id=call)


async def test_renewing_in_a_transaction_that_is_undone_loses_no_claim(db: JobDb) -> None:
    await db.insert_job(make_job())
    (claim,) = await db.claim_jobs(**DOWNLOAD)
    with suppress(ZeroDivisionError):
        async with db.transaction() as tx:
            assert await tx.renew_claims([claim]) == [claim]
            raise ZeroDivisionError

    assert not claim.lost
    assert claim in db._leases.held()


async def test_a_claim_of_another_database_is_refused(db: JobDb) -> None:
    await db.insert_job(make_job(job_id=1))
    async with JobDb.open(":memory:") as elsewhere:
        await elsewhere.init_schema()
        await elsewhere.insert_job(make_job(job_id=1))
        (foreign,) = await elsewhere.claim_jobs(**DOWNLOAD)
        await db.claim_jobs(**DOWNLOAD)

        for call in (
            db.finish_job(foreign, Stage.DOWNLOADED),
            db.update_job(foreign, progress=0.5),
            db.update_stage(foreign, Stage.DOWNLOADED),
            db.release_job(foreign),
            db.renew_claims([foreign]),
        ):
            with pytest.raises(InvalidInput, match="was made on :memory:"):
                await call


async def test_a_call_that_is_cancelled_gives_its_claims_back(db: JobDb) -> None:
    await db.insert_jobs(make_job() for _ in range(100))
    got: list[int] = []
    cancelled = 0
    for pause in range(40):
        claiming = asyncio.create_task(db.claim_jobs(**DOWNLOAD, limit=2))
        await asyncio.sleep(pause * 0.00005)
        claiming.cancel()
        try:
            got += [claim.job_id for claim in await claiming]
        except asyncio.CancelledError:
            cancelled += 1

    await wait_until(lambda: not db._leases._tasks)
    assert cancelled
    at_work = await db.get_jobs_by_stage(Stage.DOWNLOADING)
    assert sorted(row.job_id for row in at_work) == sorted(got)


async def test_a_foreign_change_of_the_stage_takes_the_job_from_its_worker(
    db: JobDb, raw: Raw
) -> None:
    job_id = await insert_job_at(db, Stage.DOWNLOADED)
    claim = await db.claim_job(job_id, into=Stage.ENCODING)
    assert claim is not None
    raw("UPDATE jobs SET ready = 7 WHERE job_id = %s", job_id)

    with pytest.raises(LeaseLost, match="the job is at Failed"):
        await db.update_stage(claim, Stage.ENCODED)
    row = await db.get_job(job_id)
    assert row is not None
    assert row.ready == Stage.FAILED


async def test_renewing_beside_an_end_brings_no_claim_back(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.insert_jobs([make_job(), make_job()])
    ended, taken = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=2)
    await db.requeue_job(taken.job_id)  # so that it is asked who holds the other one
    real = db._driver.read

    async def read(name: str, *args: Any) -> Any:
        rows = await real(name, *args)
        if name == "find_leases":  # the end overtakes the answer
            await db.finish_job(ended, Stage.DOWNLOADED)
        return rows

    monkeypatch.setattr(db._driver, "read", read)
    kept = await db.renew_claims([ended, taken])

    assert kept == []
    assert ended.ended
    assert ended not in db._leases.held()


async def test_a_transaction_that_is_over_keeps_no_claim_alive(db: JobDb) -> None:
    await db.insert_job(make_job())
    async with db.transaction() as tx:
        (claim,) = await tx.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING)
    assert db._leases.held() == [claim]

    del claim
    gc.collect()

    assert tx is not None
    assert db._leases.held() == []


async def test_a_claim_that_goes_to_and_fro_is_held_once(db: JobDb, db_url: str) -> None:
    await db.insert_job(make_job())
    (claim,) = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING)
    async with JobDb.open(db_url, sweep=None) as other:
        for _ in range(3):
            await other.renew_claims([claim, claim])
            assert other._leases.held() == [claim]
            await db.renew_claims([claim])

    assert db._leases.held() == [claim]


async def test_refresh_claims_tells_what_is_asked_and_what_was_taken(db: JobDb) -> None:
    await db.insert_jobs([make_job() for _ in range(3)])
    kept, asked, taken = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=3)
    await db.cancel_job(asked.job_id)
    await db.requeue_job(taken.job_id)

    assert await db.refresh_claims([kept, asked, taken]) == [kept, asked]
    assert (kept.hold, asked.hold) == (Hold.NONE, Hold.CANCEL)
    assert taken.lost


async def test_limits_look_behind_jobs_without_a_time(db: JobDb, raw: Raw) -> None:
    """Other programs may leave such; more of one author than are looked at in one go."""
    await db.insert_jobs([make_job(author="mika") for _ in range(600)])
    raw("UPDATE jobs SET requested_at = NULL")
    last = await db.insert_job(make_job(author="noor"))
    raw("UPDATE jobs SET requested_at = NULL WHERE job_id = %s", last)

    claims = await db.claim_jobs(
        Stage.QUEUED, into=Stage.DOWNLOADING, limit=5, limits=Limits(author=1)
    )
    assert len(claims) == 2
    assert last in [claim.job_id for claim in claims]
