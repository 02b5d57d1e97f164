"""P1: a database that libpndb made is adopted in place; any other `jobs` is left untouched."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import psycopg
import pytest

from pandora_db import EventKind, JobDb, SchemaMissing, Stage, UnknownCode
from pandora_db.testing import make_job

# The document names columns, types, indexes and which rows an index is for (seed: libpndb).
LIBPNDB = """
CREATE TABLE IF NOT EXISTS jobs (
    job_id BIGINT PRIMARY KEY, author TEXT{nn}, requested_at BIGINT{nn}, job_type SMALLINT{nn},
    preset SMALLINT{nn}, preset_concat SMALLINT, link TEXT{nn}, directory TEXT{nn},
    ready SMALLINT{nn}, message_id BIGINT{nn}, channel_id BIGINT{nn},
    created_at TIMESTAMP DEFAULT NOW(), completed_at TIMESTAMP, archived BOOLEAN{nn} DEFAULT FALSE
);
CREATE INDEX IF NOT EXISTS idx_jobs_ready ON jobs(ready) WHERE NOT archived;
CREATE INDEX IF NOT EXISTS idx_jobs_author ON jobs(author);
CREATE INDEX IF NOT EXISTS idx_jobs_archived ON jobs(archived);
"""
COLUMNS = (
    "job_id, author, requested_at, job_type, preset, preset_concat, link, directory, ready, "
    "message_id, channel_id, created_at, completed_at, archived"
)
# Every byte as the server has it: numbers, times and NULLs in text form.
FINGERPRINT = (
    "SELECT jobs_text::text FROM (SELECT " + COLUMNS + " FROM jobs ORDER BY job_id) jobs_text"
)
MADE = datetime.fromisoformat("2024-05-06 07:08:09.123456")
DONE = datetime.fromisoformat("2024-05-06 09:08:09")
LONG_AGO = datetime.fromisoformat("0001-01-01 00:00:00")
FAR_OFF = datetime.fromisoformat("9999-12-31 23:59:59.999999")
PRESETS: list[tuple[int, int | None]] = [(0, None), (1, None), (2, None), (3, 0), (3, 1)]


def job(job_id: int, **changes: Any) -> tuple[Any, ...]:
    row: dict[str, Any] = {
        "job_id": job_id,
        "author": f"author-{job_id % 3}",
        "requested_at": 1_700_000_000 + abs(job_id) % 1000,
        "job_type": 1,
        "preset": 1,
        "preset_concat": None,
        "link": f"https://videos.example/{job_id}.mkv",
        "directory": f"/srv/{job_id}",
        "ready": 0,
        "message_id": 1_200_000_000_000_000_000 + job_id % 1000,
        "channel_id": 5,
        "created_at": MADE,
        "completed_at": None,
        "archived": False,
    }
    assert changes.keys() <= row.keys()
    return tuple({**row, **changes}.values())


ROWS = [
    *(job(100 + stage, ready=stage) for stage in range(8)),
    *(
        job(200 + stage, ready=stage, archived=True, completed_at=DONE)
        for stage in range(8)
    ),
    *(job(300 + n, preset=one, preset_concat=two) for n, (one, two) in enumerate(PRESETS)),
    job(400, ready=42, job_type=17, preset=9, preset_concat=9),
    job(401, ready=-1, preset=3, preset_concat=None),
    job(-7, message_id=-1, channel_id=-2, requested_at=-5),
    job(2**53 + 1),
    job(2**63 - 1, ready=-32768),
    job(-(2**63), ready=32767),
    job(402, author="", link="x" * 10_000, directory="'; DROP TABLE jobs; --"),
    job(403, author="日本 ✓", created_at=LONG_AGO, completed_at=FAR_OFF),
    job(404, archived=True, completed_at=None),
]  # fmt: skip
NULLS = [
    job(500, **dict.fromkeys(COLUMNS.split(", ")[1:])),
    *(job(501 + n, **{name: None}) for n, name in enumerate(COLUMNS.split(", ")[1:])),
]


def connect(url: str) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(url, autocommit=True)


@pytest.fixture(params=["nullable", "not null"])
def libpndb(postgres_dsn: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database that libpndb made, with rows of every kind."""
    nullable = request.param == "nullable"
    with connect(postgres_dsn) as theirs:
        theirs.execute(LIBPNDB.replace("{nn}", "" if nullable else " NOT NULL").encode())
        marks = ", ".join(["%s"] * 14)
        theirs.cursor().executemany(
            f"INSERT INTO jobs ({COLUMNS}) VALUES ({marks})", ROWS + (NULLS if nullable else [])
        )
    return postgres_dsn


async def test_adoption_changes_no_row(libpndb: str) -> None:
    with connect(libpndb) as theirs:
        before = theirs.execute(FINGERPRINT.encode()).fetchall()
        assert len(before) >= len(ROWS)

        async with JobDb.open(libpndb) as db:
            with pytest.raises(SchemaMissing, match=r"init_schema\(\)"):
                await db.get_recent_jobs()
            await db.init_schema()
            await db.init_schema()
            assert await db.verify_schema() == []

        assert theirs.execute(FINGERPRINT.encode()).fetchall() == before


async def test_adopted_rows_are_read(libpndb: str) -> None:
    async with JobDb.open(libpndb) as db:
        await db.init_schema()
        with connect(libpndb) as theirs:
            raw = theirs.execute(f"SELECT {COLUMNS} FROM jobs".encode()).fetchall()
            authors = {row[0]: row[1] for row in raw}

        rows = {row.job_id: row for row in await db.get_jobs(limit=1000)}
        assert {row[0] for row in raw} == set(rows)
        for row in raw:
            if row[13] is None:
                continue
            mine = rows[row[0]]
            assert tuple(mine[:11]) == row[:11]
            assert mine.archived == row[13]
            for stored, read in zip(row[11:13], (mine.created_at, mine.completed_at), strict=True):
                assert (stored is None) == (read is None)
                if stored is not None and read is not None:
                    assert read.replace(tzinfo=None) == stored
                    assert read.utcoffset() is not None

        for stage in Stage:
            wanted = {row[0] for row in raw if row[8] == stage and row[13] is False}
            assert {row.job_id for row in await db.get_jobs_by_stage(stage)} == wanted
        wanted = {row[0] for row in raw if row[13] is False}
        assert {row.job_id for row in await db.get_active_jobs()} == wanted
        assert await db.get_queue_length() == len(wanted)
        history = await db.get_user_history("author-1", 1000)
        assert {row.job_id for row in history} == {
            job_id for job_id, author in authors.items() if author == "author-1"
        }
        assert await db.count_jobs(author="author-1") == len(history)
        completed = [row.job_id for row in await db.get_completed_jobs()]
        assert completed[-1] == 404
        assert set(completed) == {row[0] for row in raw if row[13]}

        for n, pair in enumerate(PRESETS):
            assert rows[300 + n].to_job_metadata().preset.value == pair
        for job_id in (400, 401, 2**63 - 1):
            with pytest.raises(UnknownCode):
                rows[job_id].to_job_metadata()
        assert await db.history(100) == []


async def test_libpndb_starts_again_beside_us_and_adds_no_index(libpndb: str) -> None:
    async with JobDb.open(libpndb) as db:
        await db.init_schema()
        with connect(libpndb) as theirs:
            theirs.execute(LIBPNDB.replace("{nn}", "").encode())
            indexes = theirs.execute(
                "SELECT indexname FROM pg_indexes "
                "WHERE tablename = 'jobs' AND indexdef LIKE '%author%'"
            ).fetchall()

        assert indexes == []
        assert await db.verify_schema() == []


async def test_adopted_rows_are_read_page_by_page(libpndb: str) -> None:
    """Rows without a time of request are not lost between the pages."""
    async with JobDb.open(libpndb) as db:
        await db.init_schema()
        whole = [row.job_id for row in await db.get_jobs(limit=1000)]

        paged = [row.job_id async for row in db.iter_jobs(page_size=1)]

        assert paged == whole
        assert len(set(paged)) == await db.count_jobs()


async def test_adopted_rows_are_moved_and_recorded(libpndb: str) -> None:
    async with JobDb.open(libpndb) as db:
        await db.init_schema()
        await db.update_stage(100, Stage.DOWNLOADING)
        await db.archive_job(100)
        await db.update_job(-(2**63) + 2**63 + 101, priority=5)

        events = await db.history(100)
        assert [(one.seq, one.kind) for one in events] == [
            (1, EventKind.STAGE),
            (2, EventKind.ARCHIVED),
        ]
        row = await db.get_job(100)
        assert row is not None
        assert row.created_at is not None
        assert row.created_at.replace(tzinfo=None) == MADE
        assert row.completed_at is not None


async def test_generated_ids_skip_the_adopted_ones(libpndb: str) -> None:
    async with JobDb.open(libpndb) as db:
        await db.init_schema()
        with connect(libpndb) as theirs:
            taken = {one for (one,) in theirs.execute("SELECT job_id FROM jobs")}
            # What libpndb stores meanwhile, right where the next ids would be.
            first = await db.get_next_job_id()
            for job_id in range(first + 1, first + 30):
                theirs.execute(
                    f"INSERT INTO jobs ({COLUMNS}) VALUES ({', '.join(['%s'] * 14)})".encode(),
                    job(job_id),
                )
                taken.add(job_id)

        fresh = [await db.insert_job(make_job()) for _ in range(5)]
        fresh += await db.insert_jobs(make_job() for _ in range(5))

        assert not taken & set(fresh)
        assert all(0 < job_id < 2**53 for job_id in fresh)


async def test_the_statements_of_libpndb_keep_working(libpndb: str) -> None:
    insert = (
        "INSERT INTO jobs (job_id, author, requested_at, job_type, preset, preset_concat, link, "
        "directory, ready, message_id, channel_id) "
        "VALUES (%s, 'rusty', %s, 1, 3, 0, 'https://x', '/srv', %s, 5, 6)"
    )
    now = int(time.time())
    async with JobDb.open(libpndb) as db:
        await db.init_schema()
        with connect(libpndb) as theirs:
            theirs.execute(insert, [900, now, 0])
            theirs.execute(
                insert.replace("channel_id)", "channel_id, created_at, archived)").replace(
                    "5, 6)", "5, 6, NOW(), FALSE)"
                ),
                [901, now + 1, 0],
            )
            theirs.execute("UPDATE jobs SET ready = %s WHERE job_id = %s", [6, 900])
            theirs.execute(
                "UPDATE jobs SET archived = TRUE, completed_at = NOW() WHERE job_id = %s", [900]
            )
            rows = theirs.execute(
                "SELECT * FROM jobs WHERE NOT archived AND author = 'rusty' ORDER BY requested_at"
            ).fetchall()
            assert [row[0] for row in rows] == [901]
            counted = theirs.execute(
                "SELECT ready, COUNT(*) FROM jobs WHERE NOT archived GROUP BY ready"
            ).fetchall()
            assert dict(counted)[0] == len(await db.get_jobs_by_stage(Stage.QUEUED))
            with pytest.raises(psycopg.errors.UniqueViolation):
                theirs.execute(insert, [900, now, 0])

            assert [(one.seq, one.kind, one.operation_id) for one in await db.history(900)] == [
                (1, EventKind.INSERTED, None),
                (2, EventKind.STAGE, None),
                (3, EventKind.ARCHIVED, None),
            ]
            history = await db.get_user_history("rusty")
            assert [(row.job_id, row.ready, row.archived) for row in history] == [
                (901, 0, False),
                (900, 6, True),
            ]
            mine = await db.get_job(900)
            assert mine is not None
            assert mine.preset_concat == 0
            assert mine.completed_at is not None

            # The maintenance of the document, and a row that both of us wrote.
            await db.update_stage(901, Stage.FAILED)
            await db.archive_job(901)
            theirs.execute(
                "UPDATE jobs SET completed_at = NOW() - INTERVAL '91 days' WHERE job_id = 901"
            )
            theirs.execute(
                "DELETE FROM jobs "
                "WHERE archived = TRUE AND completed_at < NOW() - INTERVAL '90 days'"
            )
            (line,) = await db.history(901)
            assert (line.kind, line.seq, line.operation_id) == (EventKind.DELETED, 4, None)
            assert await db.get_job(901) is None
            assert len(await db.history(900)) == 3
            assert theirs.execute(
                "SELECT count(*) FROM job_events WHERE job_id NOT IN (SELECT job_id FROM jobs)"
            ).fetchall() == [(0,)]


async def test_columns_that_others_added_stay(postgres_dsn: str) -> None:
    with connect(postgres_dsn) as theirs:
        theirs.execute(LIBPNDB.replace("{nn}", "").encode())
        theirs.execute("ALTER TABLE jobs ADD COLUMN guild_name TEXT DEFAULT 'home'")
        theirs.execute("INSERT INTO jobs (job_id, author) VALUES (1, 'x')")
        async with JobDb.open(postgres_dsn) as db:
            await db.init_schema()
            assert await db.verify_schema() == []
            await db.insert_job(make_job())
        names = theirs.execute("SELECT guild_name FROM jobs").fetchall()
    assert names == [("home",), ("home",)]
