"""Finding jobs again, on both dialects: filters, orders, pages and counts."""

from __future__ import annotations

import itertools
import random
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pandora_db import InvalidInput, Job, JobDb, JobRow, JobStatus, NotFound, Stage, UnknownCode
from pandora_db.models.limits import MAX_LIMIT
from pandora_db.models.stage import STAGES, StageKind
from pandora_db.testing import insert_job_at, make_job, seed
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.raw import Raw

START = 1_704_067_200


def ids(rows: list[JobRow]) -> list[int]:
    return [row.job_id for row in rows]


def newest_first(rows: list[JobRow]) -> list[JobRow]:
    return sorted(rows, key=lambda row: row.key, reverse=True)


@pytest.fixture
async def rows(db: JobDb, raw: Raw) -> list[JobRow]:
    """Sixty jobs, many of them requested in the same second, some held, some of a foreign type."""
    await seed(db, per_stage=6)
    raw("UPDATE jobs SET requested_at = requested_at - requested_at % 300")
    raw("UPDATE jobs SET hold = 1 WHERE job_id % 3 = 1 AND ready IN (0, 2, 3)")
    raw("UPDATE jobs SET archived = TRUE WHERE job_id % 11 = 0")
    raw("UPDATE jobs SET priority = job_id % 4 - 1")
    return await db.get_jobs(limit=1000)


def matches(row: JobRow, filters: dict[str, Any]) -> bool:
    """The filters in plain Python: what the queries must agree with."""
    status = filters.get("status")
    since, until = (
        int(value.timestamp()) if isinstance(value, datetime) else value
        for value in (filters.get("since"), filters.get("until"))
    )
    return (
        all(
            filters.get(given) in (None, getattr(row, column))
            for given, column in (
                ("stage", "ready"),
                ("author", "author"),
                ("author_id", "author_id"),
                ("guild_id", "guild_id"),
                ("job_type", "job_type"),
                ("archived", "archived"),
            )
        )
        and (status is None or row.status == status)
        and (since is None or row.requested_at >= since)
        and (until is None or row.requested_at < until)
    )


VALUES: dict[str, list[Any]] = {
    "stage": [Stage.QUEUED, 3],
    "status": [*JobStatus, "queued"],
    "author": ["mika", "nobody"],
    "author_id": [101],
    "guild_id": [900, 0],
    "job_type": [1],
    "since": [START + 600, datetime.fromtimestamp(START + 900, UTC)],
    "until": [START + 1800, datetime.fromtimestamp(START + 600, UTC)],
    "archived": [True, False],
}


async def test_get_jobs_and_count_jobs_agree_with_every_filter(
    db: JobDb, rows: list[JobRow]
) -> None:
    assert len(rows) == 60
    assert {row.status for row in rows} == set(JobStatus)
    pairs = [
        {one: first, other: second}
        for one, other in itertools.combinations(VALUES, 2)
        for first, second in itertools.product(VALUES[one], VALUES[other])
    ]
    singles = [{name: value} for name, values in VALUES.items() for value in values]
    for filters in [{}, *singles, *random.Random(7).sample(pairs, 60)]:
        wanted = newest_first([row for row in rows if matches(row, filters)])

        assert await db.get_jobs(**filters, limit=1000) == wanted, filters
        assert await db.count_jobs(**filters) == len(wanted), filters


async def test_every_status_finds_something_and_they_share_nothing(
    db: JobDb, rows: list[JobRow]
) -> None:
    found = {status: set(ids(await db.get_jobs(status=status))) for status in JobStatus}

    assert all(found.values())
    assert sum(map(len, found.values())) == len(set().union(*found.values())) == 60


async def test_pages_by_offset_and_by_key_show_every_job_once(
    db: JobDb, rows: list[JobRow]
) -> None:
    by_offset: list[JobRow] = []
    by_key: list[JobRow] = []
    after: JobRow | None = None
    for page in range(9):
        by_offset += await db.get_jobs(limit=7, offset=7 * page)
        found = await db.get_jobs(limit=7, after=after)
        by_key += found
        after = found[-1]

    assert by_offset == by_key == rows
    assert await db.get_jobs(after=rows[-1]) == []
    assert await db.get_jobs(after=rows[10].key, limit=5) == rows[11:16]
    assert await db.get_jobs(after=rows[10], limit=5, offset=2) == rows[13:18]
    assert await db.get_jobs(after=rows[10], guild_id=900, limit=1000) == [
        row for row in rows[11:] if row.guild_id == 900
    ]


async def test_keyset_pages_miss_nothing_when_jobs_arrive_meanwhile(db: JobDb) -> None:
    await db.insert_jobs(make_job(requested_at=START) for _ in range(10))
    first = await db.get_jobs(limit=5)
    await db.insert_jobs(make_job(requested_at=START) for _ in range(10))

    rest = await db.get_jobs(limit=100, after=first[-1])

    assert sorted(ids(first) + ids(rest)) == list(range(1, 11))


async def test_iter_jobs_walks_through_all_pages(db: JobDb, rows: list[JobRow]) -> None:
    for page_size in (1, 7, 60, 61):
        assert [row async for row in db.iter_jobs(page_size=page_size)] == rows
        some = [row async for row in db.iter_jobs(page_size=page_size, status=JobStatus.FAILED)]
        assert some == [row for row in rows if row.status is JobStatus.FAILED]


async def test_jobs_without_a_time_of_request_stand_in_one_place_and_on_some_page(
    db: JobDb, raw: Raw
) -> None:
    for number in (1, 2):
        await db.insert_job(make_job(job_id=number, author="mika", requested_at=START + number))
    for number in (3, 4):  # another program's
        raw("INSERT INTO jobs (job_id, author, ready) VALUES (%s, 'mika', 0)", number)

    for page_size in (1, 2, 3, 4):
        paged = [row async for row in db.iter_jobs(page_size=page_size)]
        assert ids(paged) == [4, 3, 2, 1]
    assert ids(await db.get_jobs()) == ids(await db.get_recent_jobs()) == [4, 3, 2, 1]
    assert ids(await db.get_user_history("mika")) == [4, 3, 2, 1]
    assert ids(await db.get_active_jobs()) == [1, 2, 3, 4]
    assert ids(await db.get_jobs_by_stage(Stage.QUEUED)) == [1, 2, 3, 4]


async def test_the_active_jobs_are_walked_through_at_all_stages_and_priorities(
    db: JobDb, rows: list[JobRow], raw: Raw
) -> None:
    for number, stage, at in ((900, None, None), (901, None, START), (902, 42, None), (903, -7, 1)):
        raw(
            "INSERT INTO jobs (job_id, author, ready, requested_at) VALUES (%s, 'mika', %s, %s)",
            number, stage, at,
        )  # fmt: skip
    everything = await db.get_jobs(limit=1000)
    active = [row for row in everything if not row.archived]
    assert {900, 901, 902, 903} < set(ids(active)) < set(ids(everything))

    for page_size in (1, 7, 1000):
        assert [row async for row in db.iter_jobs(page_size=page_size, archived=False)] == active
    for offset in (0, 3, 1000):
        page = await db.get_jobs(archived=False, offset=offset, limit=5)
        assert page == active[offset : offset + 5]
    assert await db.count_jobs(archived=False) == len(active)
    assert ids(await db.get_active_jobs())[-2:] == [900, 902]  # those without a time come last


async def test_jobs_are_found_by_whose_they_are_now_whoever_says_so(db: JobDb, raw: Raw) -> None:
    ours = await db.insert_job(make_job(author="mika", author_id=1, guild_id=7))
    raw("INSERT INTO jobs (job_id, author, requested_at, ready) VALUES (900, 'mika', 5, 0)")
    assert ids(await db.get_user_history("mika")) == [ours, 900]

    await db.update_job(ours, author_id=2, guild_id=8)
    raw("UPDATE jobs SET author = 'rin', requested_at = 4 WHERE job_id = %s", ours)
    raw("UPDATE jobs SET author_id = 2, guild_id = 8 WHERE job_id = 900")

    assert ids(await db.get_user_history("mika")) == [900]
    assert ids(await db.get_user_history("rin")) == [ours]
    assert ids(await db.get_user_history(2)) == ids(await db.get_jobs(guild_id=8)) == [900, ours]
    assert await db.get_user_history(1) == await db.get_jobs(guild_id=7) == []
    assert await db.count_jobs(author_id=2) == 2
    raw("DELETE FROM jobs WHERE job_id = 900")
    assert ids(await db.get_jobs(author_id=2)) == [ours]
    assert await db.count_jobs(author="mika") == 0


async def test_an_undone_change_leaves_everybodys_jobs_as_they_were(db: JobDb) -> None:
    job_id = await db.insert_job(make_job(author_id=1))
    with suppress(RuntimeError):
        async with db.transaction() as tx:
            await tx.update_job(job_id, author_id=2)
            await tx.insert_job(make_job(author_id=2))
            raise RuntimeError

    assert ids(await db.get_jobs(author_id=1)) == [job_id]
    assert await db.get_jobs(author_id=2) == []


async def test_iter_jobs_holds_nothing_between_pages(db: JobDb, rows: list[JobRow]) -> None:
    seen = 0
    async for row in db.iter_jobs(page_size=5):
        seen += 1
        if not row.archived:
            await db.archive_job(row.job_id)
        async with db.transaction() as tx:
            await tx.insert_job(make_job())
        await wait_until(lambda: _is_idle(db))  # the news of a commit goes out after it
    assert seen == 60


async def _is_idle(db: JobDb) -> bool:
    pool = (await db.health()).pool
    return pool.idle == pool.size


async def test_get_job_finds_active_and_archived_jobs_and_no_others(
    db: JobDb, rows: list[JobRow]
) -> None:
    for row in rows:
        assert await db.get_job(row.job_id) == row
    assert await db.get_job(404) is None
    assert await db.get_job(0) is None


async def test_get_jobs_by_ids_keeps_the_order_asked_for(db: JobDb, rows: list[JobRow]) -> None:
    wanted = [row.job_id for row in rows]
    random.Random(3).shuffle(wanted)

    assert ids(await db.get_jobs_by_ids(wanted)) == wanted
    assert ids(await db.get_jobs_by_ids([5, 4040, 3, 5])) == [5, 3, 5]
    assert await db.get_jobs_by_ids([]) == []
    assert await db.get_jobs_by_ids(iter([2**63 - 1])) == []


async def test_get_jobs_by_stage_shows_the_active_oldest_first(
    db: JobDb, rows: list[JobRow]
) -> None:
    for stage in Stage:
        wanted = [row for row in reversed(rows) if row.ready == stage and not row.archived]
        assert await db.get_jobs_by_stage(stage) == wanted
        assert await db.get_jobs_by_stage(stage.value) == wanted


async def test_get_active_jobs_and_get_queue_length_leave_the_archive_out(
    db: JobDb, rows: list[JobRow]
) -> None:
    wanted = [row for row in reversed(rows) if not row.archived]

    assert 0 < len(wanted) < 60
    assert await db.get_active_jobs() == wanted
    assert await db.get_queue_length() == len(wanted)


async def test_get_user_history_takes_a_name_or_an_id(db: JobDb, rows: list[JobRow]) -> None:
    mika = [row for row in rows if row.author == "mika"]

    assert await db.get_user_history("mika") == mika[:10]
    assert await db.get_user_history("mika", 1000) == mika
    assert await db.get_user_history(100, limit=3) == mika[:3]
    assert await db.get_user_history("nobody") == []
    assert await db.get_user_history(4) == []


async def test_a_name_that_looks_like_a_number_is_a_name(db: JobDb) -> None:
    await db.insert_job(make_job(author="100", author_id=7))

    assert len(await db.get_user_history("100")) == 1
    assert await db.get_user_history(100) == []


async def test_get_completed_jobs_shows_the_last_completed_first(db: JobDb, raw: Raw) -> None:
    archived = [await insert_job_at(db, Stage.UPLOADED) for _ in range(5)]
    await db.insert_job(make_job())
    for n, job_id in enumerate([3, 1, 2]):
        raw(f"UPDATE jobs SET completed_at = '2026-01-01 00:00:0{n}' WHERE job_id = {job_id}")
    raw("UPDATE jobs SET completed_at = NULL WHERE job_id = 4")

    assert ids(await db.get_completed_jobs()) == [archived[4], 2, 1, 3, 4]
    assert ids(await db.get_completed_jobs(limit=2)) == [archived[4], 2]


async def test_get_recent_jobs_shows_the_last_requested_first(
    db: JobDb, rows: list[JobRow]
) -> None:
    assert await db.get_recent_jobs() == rows[:50]
    assert await db.get_recent_jobs(limit=3) == rows[:3]


async def test_queue_position_counts_priority_then_time_then_id(db: JobDb) -> None:
    old = await db.insert_job(make_job(requested_at=START))
    twin = await db.insert_job(make_job(requested_at=START))
    urgent = await db.insert_job(make_job(requested_at=START + 5, priority=10))
    low = await db.insert_job(make_job(requested_at=START - 5, priority=-10))
    later = await insert_job_at(db, Stage.DOWNLOADED)

    places = [await db.queue_position(one) for one in (urgent, old, twin, low, later)]

    assert places == [1, 2, 3, 4, 1]
    await db.archive_job(urgent)
    assert [await db.queue_position(one) for one in (urgent, old)] == [None, 1]


async def test_queue_position_counts_only_jobs_that_can_be_claimed(db: JobDb) -> None:
    now = time.time()
    paused = await db.insert_job(make_job(requested_at=START))
    delayed = await db.insert_job(make_job(requested_at=START, not_before=now + 3600))
    due = await db.insert_job(make_job(requested_at=START, not_before=now - 3600))
    mine = await db.insert_job(make_job(requested_at=START))
    await db.pause_job(paused)

    assert [await db.queue_position(one) for one in (paused, delayed, due, mine)] == [1, 1, 1, 2]

    (claim,) = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING)
    assert claim.job_id == due
    assert await db.queue_position(mine) == 1
    await db.resume_job(paused)
    assert await db.queue_position(mine) == 2


async def test_queue_position_is_for_waiting_jobs(db: JobDb, raw: Raw) -> None:
    for stage in Stage:
        job_id = await insert_job_at(db, stage, archived=False)
        waits = STAGES[stage].kind is StageKind.WAITING
        assert (await db.queue_position(job_id) is not None) == waits, stage
    raw("UPDATE jobs SET ready = 42 WHERE job_id = 1")
    assert await db.queue_position(1) is None
    with pytest.raises(NotFound, match="there is no job 404"):
        await db.queue_position(404)


async def test_stage_counts_counts_the_active(db: JobDb, rows: list[JobRow], raw: Raw) -> None:
    raw("UPDATE jobs SET ready = 42 WHERE job_id = 1")
    rows = await db.get_active_jobs()

    counts = await db.stage_counts()

    assert counts == {code: len([1 for r in rows if r.ready == code]) for code in counts}
    assert sum(counts.values()) == len(rows)
    assert counts[42] == 1
    assert {type(code) for code in counts} == {Stage, int}


BAD_QUERIES: list[tuple[str, dict[str, Any], str]] = [
    ("get_job", {"job_id": -1}, "job_id is -1"),
    ("get_job", {"job_id": 2**63}, "job_id is 9223372036854775808"),
    ("get_job", {"job_id": "1"}, "job_id is a text of 1 character"),
    ("get_job", {"job_id": True}, "job_id is True"),
    ("get_job", {"job_id": 1.0}, "job_id is 1.0"),
    ("get_jobs_by_ids", {"job_ids": [1, -1]}, "-1"),
    ("get_jobs_by_ids", {"job_ids": 7}, "job_ids"),
    ("get_jobs_by_ids", {"job_ids": [1, "2"]}, "text"),
    ("get_jobs_by_stage", {"stage": True}, "stage is True"),
    ("get_jobs_by_stage", {"stage": "Queued"}, "stage is a text"),
    ("get_user_history", {"author": ""}, "author is an empty text"),
    ("get_user_history", {"author": "a\0b"}, "NUL character at position 1"),
    ("get_user_history", {"author": "\ud800"}, "lone surrogate"),
    ("get_user_history", {"author": -1}, "author is -1"),
    ("get_user_history", {"author": None}, "author is None"),
    ("get_user_history", {"author": "a", "limit": 0}, "limit is 0"),
    ("get_user_history", {"author": "a", "limit": -5}, "limit is -5"),
    ("get_completed_jobs", {"limit": MAX_LIMIT + 1}, "limit is 100001"),
    ("get_recent_jobs", {"limit": 10**30}, "limit is an int of more than 70 bits"),
    ("get_recent_jobs", {"limit": True}, "limit is True"),
    ("get_jobs", {"limit": 1.5}, "limit is 1.5"),
    ("get_jobs", {"offset": -1}, "offset is -1"),
    ("get_jobs", {"offset": 2**63}, "offset is"),
    ("get_jobs", {"since": datetime.fromisoformat("2026-01-01")}, "without time zone"),
    ("get_jobs", {"until": 1.5}, "until is 1.5"),
    ("get_jobs", {"until": timedelta(1)}, "until is a value of type timedelta"),
    ("get_jobs", {"since": -1}, "since is -1"),
    ("get_jobs", {"status": "happy"}, "status is 'happy'; expected one of queued"),
    ("get_jobs", {"archived": 1}, "archived is 1; expected True or False"),
    ("get_jobs", {"author": "x" * 257}, "a text of 257 characters; expected text of 1 to 256"),
    ("get_jobs", {"guild_id": "5"}, "guild_id is a text"),
    ("get_jobs", {"after": 7}, "after takes a JobRow"),
    ("get_jobs", {"after": (1, "2")}, "after is a text"),
    ("get_jobs", {"autor": "mika"}, "there is no filter autor"),
    ("count_jobs", {"limit": 5}, "there is no filter limit"),
    ("count_jobs", {"job_type": "1"}, "job_type is a text"),
    ("queue_position", {"job_id": None}, "job_id is None"),
    ("history", {"job_id": -7}, "job_id is -7"),
]


async def test_bad_arguments_of_queries_are_refused_before_any_sql(
    db: JobDb, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_sql(*_: object) -> None:
        raise AssertionError("SQL was run")

    for name in ("read", "write", "unit"):
        monkeypatch.setattr(db._driver, name, no_sql)
    for method, arguments, message in BAD_QUERIES:
        with pytest.raises(InvalidInput) as caught:
            await getattr(db, method)(**arguments)
        assert message in str(caught.value), (method, arguments, str(caught.value))
        assert caught.value.field in {*arguments, None}, (method, arguments)
    with pytest.raises(InvalidInput, match="page_size is 0"):
        _ = [row async for row in db.iter_jobs(page_size=0)]


async def test_unknown_codes_are_refused_by_name(db: JobDb) -> None:
    calls: list[tuple[Any, str]] = [
        (db.get_jobs_by_stage(42), "stage 42 is unknown; known are 0 Stage.QUEUED"),
        (db.get_jobs(stage=-1), "stage -1 is unknown"),
        (db.count_jobs(job_type=9), "job_type 9 is unknown; known are 1 ENCODE"),
    ]
    for call, message in calls:
        with pytest.raises(UnknownCode, match=message):
            await call


async def test_name_counts_tell_how_many_wait_by_name(db: JobDb) -> None:
    for name in ("a", "b", "a", None):
        await db.insert_job(Job(author="mika", name=name))
    moved = await db.insert_job(Job(author="mika", name="a"))
    await db.update_stage(moved, Stage.DOWNLOADED)
    archived = await db.insert_job(Job(author="mika", name="b"))
    await db.archive_job(archived)

    assert await db.name_counts(Stage.QUEUED) == {"a": 2, "b": 1, None: 1}
    assert await db.name_counts(Stage.DOWNLOADED) == {"a": 1}
    assert await db.name_counts(Stage.ENCODED) == {}
    with pytest.raises(InvalidInput):
        await db.name_counts(77)
