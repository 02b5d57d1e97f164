"""P1: a `jobs` that neither we nor libpndb made is refused, and left exactly as it was."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pandora_db import ForeignSchema, JobDb
from pandora_db.testing import make_job
from tests.dialect.test_adoption import LIBPNDB, connect

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.databases import PostgresDatabases

# The `jobs` of the other seeds, each in its own dialect's words.
YOUTUBE_BUILDER = """
CREATE TABLE jobs (job_id INTEGER PRIMARY KEY, run_id TEXT, run_dir TEXT, status TEXT,
    progress INTEGER, current_step TEXT, config TEXT, output_file TEXT, error TEXT,
    created_at TEXT, started_at TEXT, finished_at TEXT);
CREATE INDEX idx_jobs_status ON jobs (status);
INSERT INTO jobs (job_id, run_id) VALUES (1, 'run-1-abc123');
"""
SPACEDRIVE = """
CREATE TABLE jobs (id TEXT PRIMARY KEY, name TEXT NOT NULL, data {blob} NOT NULL,
    status TEXT NOT NULL, progress REAL, progress_data TEXT, output TEXT, error_message TEXT,
    created_at TEXT NOT NULL, started_at TEXT, completed_at TEXT, last_checkpoint TEXT);
INSERT INTO jobs (id, name, data, status, created_at) VALUES ('a', 'copy', '', 'queued', 'now');
"""
AIOM4B = """
CREATE TABLE jobs (id {uuid} PRIMARY KEY, status VARCHAR(20) NOT NULL DEFAULT 'queued',
    input_folders TEXT NOT NULL, output_file TEXT, start_time TIMESTAMP, end_time TIMESTAMP,
    log TEXT, created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
INSERT INTO jobs (id, input_folders) VALUES ('7b0f34f0-2c5c-4a52-9c3e-0d3a0c7b8f11', '[]');
"""
ITINERARY = """
CREATE TABLE constraints (id TEXT PRIMARY KEY);
CREATE TABLE jobs (id TEXT PRIMARY KEY, name TEXT NOT NULL, schedule TEXT NOT NULL, pod_spec TEXT,
    constraint_id TEXT, created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    updated_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
    FOREIGN KEY (constraint_id) REFERENCES constraints(id) ON DELETE SET NULL);
CREATE INDEX idx_jobs_constraint_id ON jobs(constraint_id);
INSERT INTO jobs (id, name, schedule) VALUES ('a', 'nightly', '0 0 * * *');
"""
FOREIGN = {
    "youtube-builder": YOUTUBE_BUILDER,
    "spacedrive": SPACEDRIVE,
    "aiom4b": AIOM4B,
    "itinerary": ITINERARY,
    "a view": "CREATE TABLE t (a TEXT); CREATE VIEW jobs AS SELECT a FROM t;",
    "another stages": "CREATE TABLE stages (name TEXT);",
    "another job_events": "CREATE TABLE job_events (id INTEGER);",
    "a view job_overview": "CREATE VIEW job_overview AS SELECT 1 AS a;",
    "an index of our name": (
        "CREATE TABLE encode_jobs (ready INTEGER, a INTEGER);"
        "CREATE INDEX idx_jobs_ready ON encode_jobs (ready);"
        "CREATE INDEX idx_jobs_active ON encode_jobs (a);"
    ),
}
FOREIGN_SQLITE = {
    **FOREIGN,
    "other case": "CREATE TABLE Jobs (id INTEGER PRIMARY KEY);",
    "libpndb's, which knows PostgreSQL only": LIBPNDB.split(";", maxsplit=1)[0].replace("{nn}", "")
    .replace("DEFAULT NOW()", "") + ";",
}  # fmt: skip
CATALOG = """
SELECT 'r', relname::text, relkind::text, relfilenode::text FROM pg_class
WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_|^information')
UNION ALL SELECT 'a', attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod)
FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
WHERE attnum > 0
  AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_|^information')
UNION ALL SELECT 'f', proname::text, '', '' FROM pg_proc
WHERE pronamespace IN (SELECT oid FROM pg_namespace WHERE nspname !~ '^pg_|^information')
UNION ALL SELECT 'n', nspname::text, '', '' FROM pg_namespace
UNION ALL SELECT 't', tgname::text, tgrelid::regclass::text, '' FROM pg_trigger
ORDER BY 1, 2, 3, 4
"""


async def test_a_foreign_table_is_refused_untouched_on_postgres(
    postgres_databases: PostgresDatabases,
) -> None:
    partitioned = LIBPNDB.split(";", maxsplit=1)[0] + " PARTITION BY RANGE (job_id);"
    foreign = {
        **FOREIGN,
        "partitioned": partitioned.replace("{nn}", ""),
        "no primary key": LIBPNDB.replace("{nn}", "").replace(" PRIMARY KEY", ""),
        "another primary key": LIBPNDB.replace("{nn}", "").replace(
            "job_id BIGINT PRIMARY KEY", "job_id BIGINT, PRIMARY KEY (job_id, author)"
        ),
        "another type": LIBPNDB.replace("{nn}", "").replace("ready SMALLINT", "ready INTEGER"),
        "a column too few": LIBPNDB.replace("{nn}", "").replace("directory TEXT,", ""),
        "a column of ours": LIBPNDB.replace("{nn}", "").replace(
            "directory TEXT,", "directory TEXT, priority TEXT,"
        ),
        "a materialized view": "CREATE MATERIALIZED VIEW jobs AS SELECT 1 AS job_id;",
        "a sequence": "CREATE SEQUENCE job_ids;",
        "a libpndb index elsewhere": LIBPNDB.replace("{nn}", "").replace(
            "CREATE INDEX IF NOT EXISTS idx_jobs_author ON jobs(author);",
            "CREATE TABLE t (a TEXT); CREATE INDEX idx_jobs_author ON t (a);",
        ),
    }  # fmt: skip
    assert LIBPNDB.replace("{nn}", "") not in foreign.values()
    for what, script in foreign.items():
        with postgres_databases.fresh() as dsn, connect(dsn) as theirs:
            theirs.execute(script.format(blob="BYTEA", uuid="UUID").encode())
            before = theirs.execute(CATALOG.encode()).fetchall()
            async with JobDb.open(dsn) as db:
                with pytest.raises(ForeignSchema, match=r"untouched.*another database") as caught:
                    await db.init_schema()
                assert caught.value.differences, what
                with pytest.raises(ForeignSchema):
                    await db.plan_schema()
            assert theirs.execute(CATALOG.encode()).fetchall() == before, what


@pytest.mark.parametrize("what", list(FOREIGN_SQLITE))
async def test_a_foreign_table_is_refused_untouched_on_sqlite(what: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.executescript(FOREIGN_SQLITE[what].format(blob="BLOB", uuid="TEXT"))
        before = list(theirs.iterdump())

    async with JobDb.open(path) as db:
        with pytest.raises(ForeignSchema, match="untouched") as caught:
            await db.init_schema()
        assert caught.value.differences
        with pytest.raises(ForeignSchema):
            await db.plan_schema()

    with closing(sqlite3.connect(path)) as theirs:
        assert list(theirs.iterdump()) == before
    assert [one.name for one in tmp_path.iterdir()] == ["theirs.db"]


async def test_other_tables_in_the_same_file_do_not_stand_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "theirs.db"
    with closing(sqlite3.connect(path)) as theirs:
        theirs.executescript("CREATE TABLE orders (customer TEXT); INSERT INTO orders VALUES ('x')")

    async with JobDb.open(path) as db:
        await db.init_schema()
        await db.insert_job(make_job())
        assert await db.verify_schema() == []

    with closing(sqlite3.connect(path)) as theirs:
        assert theirs.execute("SELECT * FROM orders").fetchall() == [("x",)]


async def test_a_stage_code_with_another_meaning_is_refused(postgres_dsn: str) -> None:
    async with JobDb.open(postgres_dsn) as db:
        await db.init_schema()
        with connect(postgres_dsn) as theirs:
            theirs.execute("UPDATE stages SET name = 'Tagging' WHERE code = 3")

        with pytest.raises(ForeignSchema, match=r"stage 3 .*'Tagging'.*'Encoding'"):
            await db.init_schema()


async def test_an_empty_schema_beside_a_foreign_one_is_used(postgres_dsn: str) -> None:
    """`schema=` is the way out that the refusal names."""
    with connect(postgres_dsn) as theirs:
        theirs.execute(ITINERARY.encode())
    async with JobDb.open(postgres_dsn, schema="pandora") as db:
        await db.init_schema()
        job_id = await db.insert_job(make_job())
        assert await db.get_job(job_id) is not None
        assert await db.verify_schema() == []
    with connect(postgres_dsn) as theirs:
        assert theirs.execute("SELECT name FROM public.jobs").fetchall() == [("nightly",)]
