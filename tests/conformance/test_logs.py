"""Log lines: under the claim, numbered, the newest only, and gone with the job."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from tests.support.raw import Raw


async def claimed(db: JobDb) -> Claim:
    job_id = await db.insert_job(Job(author="mika"))
    claim = await db.claim_job(job_id, into=Stage.DOWNLOADING)
    assert claim is not None
    return claim


def said(lines: list[JobLog]) -> list[tuple[int, str]]:
    return [(line.seq, line.message) for line in lines]


async def test_append_logs_keeps_lines_that_logs_reads_by_pages(db: JobDb) -> None:
    claim = await claimed(db)
    other = await claimed(db)
    weird = "NUL \0, half \ud800, ü"

    last = await db.append_logs(claim, [LogLine("a"), LogLine(weird, logging.ERROR, 90.5)])
    assert last == 2
    assert await db.append_logs(claim, []) == 2
    assert await db.append_logs(claim, [LogLine("c")], after=last) == 3
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
    for _ in range(2):
        assert await db.append_logs(claim, [LogLine("a"), LogLine("b")], after=0) == 2

    assert said(await db.logs(claim.job_id)) == [(1, "a"), (2, "b")]


async def test_append_logs_keeps_the_newest_lines_of_each_job(db: JobDb, raw: Raw) -> None:
    claim, other = await claimed(db), await claimed(db)
    await db.append_logs(other, [LogLine("stays")])
    last = 0
    for start in range(0, 2500, 500):
        lines = [LogLine(str(number)) for number in range(start, start + 500)]
        last = await db.append_logs(claim, lines, after=last)

    assert last == 2500
    assert raw(
        "SELECT count(*), min(seq), max(seq) FROM job_logs WHERE job_id = %s", claim.job_id
    ) == [(1000, 1501, 2500)]
    assert said(await db.logs(other.job_id)) == [(1, "stays")]
    await db.append_logs(claim, [LogLine("x" * 100_000)], after=last + 400)  # 400 were let go
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
            await db.append_logs(claim, [LogLine("late")], after=0)
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
        ["text"],
        [LogLine(5)],  # type: ignore[arg-type]
        [LogLine("a", -1)],
        [LogLine("a", 101)],
        [LogLine("a", 20, -1.0)],
        [LogLine("a")] * 1001,
    ],
)
async def test_append_logs_refuses_what_is_no_line(db: JobDb, lines: Any, raw: Raw) -> None:
    claim = await claimed(db)
    with pytest.raises(InvalidInput):
        await db.append_logs(claim, lines)
    with pytest.raises(InvalidInput):
        await db.append_logs(claim, [LogLine("a")], after=-1)
    assert raw("SELECT count(*) FROM job_logs") == [(0,)]
