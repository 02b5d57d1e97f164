"""Log lines: under the claim, numbered, the newest only, and gone with the job."""

from __future__ import annotations

import asyncio
import itertools
import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from pandora_db import (
    Claim,
    InvalidInput,
    Job,
    JobDb,
    JobLog,
    LeaseLost,
    LogLine,
    Stage,
)
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.raw import Raw

WAITING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND wait_event_type = 'Lock'"
)


async def claimed(db: JobDb) -> Claim:
    job_id = await db.insert_job(Job(author="mika"))
    claim = await db.claim_job(job_id, into=Stage.DOWNLOADING)
    assert claim is not None
    return claim


async def until_it_waits(db: JobDb, raw: Raw) -> None:
    """Until a write of this handle waits for another handle's transaction."""
    if db.dialect == "postgres":
        await wait_until(lambda: raw(WAITING)[0][0])
    else:  # the writer's thread is at it, and the file has one lock
        await wait_until(lambda: db._driver._writer.busy)  # type: ignore[attr-defined]


def said(lines: list[JobLog]) -> list[tuple[int, str]]:
    return [(line.seq, line.message) for line in lines]


async def test_append_logs_keeps_lines_that_logs_reads_by_pages(db: JobDb) -> None:
    claim = await claimed(db)
    other = await claimed(db)
    weird = "NUL \0, half \ud800, ü"

    last = await db.append_logs(claim, [LogLine("a"), LogLine(weird, logging.ERROR, 90.5)])
    assert last == 2
    assert await db.append_logs(claim, []) == 2
    assert await db.append_logs(claim, [LogLine("c")]) == 3
    assert await db.append_logs(other, [LogLine("other")]) == 1

    found = await db.logs(claim.job_id)
    assert said(found) == [(1, "a"), (2, r"NUL \x00, half \ud800, ü"), (3, "c")]
    assert [(line.level, line.attempt, line.stage) for line in found] == [
        (logging.INFO, 1, Stage.DOWNLOADING),
        (logging.ERROR, 1, Stage.DOWNLOADING),
        (logging.INFO, 1, Stage.DOWNLOADING),
    ]
    assert timedelta(seconds=89) < found[0].at - found[1].at < timedelta(seconds=92)
    assert said(await db.logs(claim.job_id, limit=2)) == said(found)[:2]
    assert said(await db.logs(claim.job_id, after=2, limit=2)) == [(3, "c")]
    assert await db.logs(404) == []
    assert "error Downloading 1: NUL" in str(found[1])


async def test_append_logs_that_is_repeated_keeps_nothing_twice(db: JobDb) -> None:
    claim = await claimed(db)
    other = await claimed(db)
    call = uuid4()
    lines = [LogLine("a"), LogLine("b")]
    assert await db.append_logs(claim, lines, operation_id=call) == 2
    assert await db.append_logs(claim, [LogLine("c")]) == 3
    assert await db.append_logs(claim, lines, operation_id=call) == 2
    assert await asyncio.gather(
        *(db.append_logs(claim, lines, operation_id=call) for _ in range(10))
    ) == [2] * 10  # fmt: skip
    assert await db.append_logs(other, lines, operation_id=call) == 2

    assert said(await db.logs(claim.job_id)) == [(1, "a"), (2, "b"), (3, "c")]
    await db.finish_job(claim, Stage.DOWNLOADED)
    assert await db.append_logs(claim, lines, operation_id=call) == 2
    with pytest.raises(LeaseLost):
        await db.append_logs(claim, lines, operation_id=uuid4())


async def test_append_logs_of_many_at_once_keeps_every_line(db: JobDb, db_url: str) -> None:
    claim = await claimed(db)
    async with JobDb.open(db_url) as other:
        numbers = await asyncio.gather(
            *(
                handle.append_logs(claim, [LogLine(str(number))])
                for number, handle in zip(range(50), itertools.cycle([db, other]), strict=False)
            )
        )

    assert sorted(numbers) == list(range(1, 51))
    lines = await db.logs(claim.job_id)
    assert [line.seq for line in lines] == list(range(1, 51))
    assert {line.message for line in lines} == {str(number) for number in range(50)}
    assert [numbers[int(line.message)] for line in lines] == list(range(1, 51))


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a transaction"])
async def test_append_logs_that_waited_for_another_counts_on_from_its_lines(
    db: JobDb, db_url: str, raw: Raw, *, inside: bool
) -> None:
    claim = await claimed(db)
    await db.append_logs(claim, [LogLine("first")])

    async def append() -> int:
        lines = [LogLine(f"late {number}") for number in range(900)]
        if not inside:
            return await db.append_logs(claim, lines)
        async with db.transaction() as tx:
            return await tx.append_logs(claim, lines)

    async with JobDb.open(db_url) as other:
        async with other.transaction() as tx:
            lines = [LogLine(f"early {number}") for number in range(900)]
            assert await tx.append_logs(claim, lines) == 901
            late = asyncio.ensure_future(append())
            await until_it_waits(db, raw)

        assert await late == 1801
    found = await db.logs(claim.job_id, limit=5000)
    assert [line.seq for line in found] == list(range(802, 1802))
    assert [line.message for line in found] == [
        *(f"early {number}" for number in range(800, 900)),
        *(f"late {number}" for number in range(900)),
    ]


async def test_append_logs_that_waited_for_itself_keeps_its_lines_once(
    db: JobDb, db_url: str, raw: Raw
) -> None:
    claim = await claimed(db)
    call = uuid4()
    lines = [LogLine("a"), LogLine("b")]

    async with JobDb.open(db_url) as other:
        async with other.transaction() as tx:
            assert await tx.append_logs(claim, lines, operation_id=call) == 2
            late = asyncio.ensure_future(db.append_logs(claim, lines, operation_id=call))
            await until_it_waits(db, raw)

        assert await late == 2
    assert said(await db.logs(claim.job_id)) == [(1, "a"), (2, "b")]


async def test_append_logs_keeps_the_newest_lines_of_each_job(db: JobDb, raw: Raw) -> None:
    claim, other = await claimed(db), await claimed(db)
    await db.append_logs(other, [LogLine("stays")])
    last = 0
    for start in range(0, 2500, 500):
        lines = [LogLine(str(number)) for number in range(start, start + 500)]
        last = await db.append_logs(claim, lines)

    assert last == 2500
    assert raw(
        "SELECT count(*), min(seq), max(seq) FROM job_logs WHERE job_id = %s", claim.job_id
    ) == [(1000, 1501, 2500)]
    assert said(await db.logs(other.job_id)) == [(1, "stays")]
    await db.append_logs(claim, [LogLine("x" * 100_000)], skipped=400)
    found = await db.logs(claim.job_id, limit=5000)
    assert (found[0].seq, found[-1].seq) == (1902, 2901)
    assert len(found[-1].message) == 4096
    assert found[-1].message.endswith("(cut; 100000 characters in all)")


async def test_append_logs_of_a_claim_that_is_over_writes_nothing(db: JobDb, raw: Raw) -> None:
    taken, deleted, ended = [await claimed(db) for _ in range(3)]
    await db.requeue_job(taken.job_id)
    again = await db.claim_job(taken.job_id, into=Stage.DOWNLOADING)
    assert again is not None
    await db.delete_job(deleted.job_id)
    await db.finish_job(ended, Stage.DOWNLOADED)

    for claim in (taken, deleted, ended):
        with pytest.raises(LeaseLost):
            await db.append_logs(claim, [LogLine("late")])
    assert taken.lost
    assert raw("SELECT count(*) FROM job_logs") == [(0,)]
    await db.append_logs(again, [LogLine("mine")])
    assert [line.attempt for line in await db.logs(taken.job_id)] == [1]


async def test_logs_outlive_the_archive_and_go_with_the_job(db: JobDb, raw: Raw) -> None:
    claim = await claimed(db)
    await db.append_logs(claim, [LogLine("a")])
    await db.finish_job(claim, Stage.UPLOADED)
    await db.archive_job(claim.job_id)
    assert said(await db.logs(claim.job_id)) == [(1, "a")]

    await db.delete_job(claim.job_id)
    assert raw("SELECT count(*) FROM job_logs") == [(0,)]


@pytest.mark.parametrize(
    "lines",
    [
        None,
        5,
        "text",
        "",
        b"text",
        ["text"],
        [None],
        {"a": 1},
        [LogLine(5)],  # type: ignore[arg-type]
        [LogLine("a", -1)],
        [LogLine("a", 101)],
        [LogLine("a", 20, -1.0)],
        [LogLine("a")] * 1001,
        itertools.repeat(LogLine("a")),
    ],
)
async def test_append_logs_refuses_what_is_no_line(db: JobDb, lines: Any, raw: Raw) -> None:
    claim = await claimed(db)
    with pytest.raises(InvalidInput):
        await db.append_logs(claim, lines)
    for wrong in (-1, 2**31, True, "5"):
        with pytest.raises(InvalidInput):
            await db.append_logs(claim, [LogLine("a")], skipped=wrong)  # type: ignore[arg-type]
    assert raw("SELECT count(*) FROM job_logs") == [(0,)]
