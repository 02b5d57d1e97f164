"""A long archive, made by SQL of its own: `insert_jobs` would take minutes."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing

import asyncpg

from benchmarks.raw_postgres import connect_arguments
from pandora_db.dsn import parse_dsn
from pandora_db.models.target import SqliteTarget

FIRST_REQUEST = 1_600_000_000
"""When the oldest archived job was requested; the others follow a second apart."""
AUTHORS = 1_000

_COLUMNS = """
    job_id, author, requested_at, job_type, preset, link, directory, ready, message_id, channel_id,
    created_at, completed_at, archived, author_id, guild_id, operation_id, updated_at, event_seq
"""

_SQLITE = (
    f"""
    INSERT INTO jobs ({_COLUMNS})
    WITH RECURSIVE n (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM n WHERE n < :last)
    SELECT n, 'author-' || (n % {AUTHORS}), {FIRST_REQUEST} + n, 1, 1,
           'https://videos.example/' || n, '/srv/pandora/' || n, 6 + (n % 13 = 0), n, n % 50,
           strftime('%Y-%m-%d %H:%M:%f', {FIRST_REQUEST} + n, 'unixepoch'),
           strftime('%Y-%m-%d %H:%M:%f', {FIRST_REQUEST} + n + 600, 'unixepoch'),
           1, n % {AUTHORS}, n % 20, printf('00000000-0000-7000-8000-%012d', n),
           strftime('%Y-%m-%d %H:%M:%f', {FIRST_REQUEST} + n + 600, 'unixepoch'), 1
    FROM n
    """,
    """
    INSERT INTO job_events (job_id, seq, at, kind, stage, attempt, operation_id)
    SELECT job_id, 1, created_at, 1, 0, 0, operation_id FROM jobs
    WHERE job_id BETWEEN :first AND :last
    """,
    "UPDATE job_ids SET value = max(value, :first, :last)",
)
_POSTGRES = (
    f"""
    INSERT INTO jobs ({_COLUMNS})
    SELECT n, 'author-' || (n % {AUTHORS}), {FIRST_REQUEST} + n, 1, 1,
           'https://videos.example/' || n, '/srv/pandora/' || n, 6 + (n % 13 = 0)::int, n, n % 50,
           at, at + interval '600 s',
           TRUE, n % {AUTHORS}, n % 20,
           ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid,
           (at + interval '600 s') AT TIME ZONE 'UTC', 1
    FROM (SELECT n, timestamp 'epoch' + ({FIRST_REQUEST} + n) * interval '1 s' AS at
          FROM generate_series($1::bigint, $2::bigint) AS n) AS made
    """,
    """
    INSERT INTO job_events (job_id, seq, at, kind, stage, attempt, operation_id)
    SELECT job_id, 1, created_at AT TIME ZONE 'UTC', 1, 0, 0, operation_id FROM jobs
    WHERE job_id BETWEEN $1 AND $2
    """,
    "SELECT setval('job_ids', greatest($1::bigint, $2::bigint))",
)


async def fill_archive(url: str, first: int, last: int) -> None:
    """Add archived jobs with the ids from `first` to `last` to a migrated database."""
    if isinstance(target := parse_dsn(url), SqliteTarget):
        await asyncio.to_thread(_fill_file, target.describe(), first, last)
        return
    connection = await asyncpg.connect(**connect_arguments(url))
    try:
        for statement in _POSTGRES:
            await connection.execute(statement, first, last, timeout=600)
    finally:
        await connection.close()


def _fill_file(path: str, first: int, last: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -500000")
        for statement in _SQLITE:
            connection.execute(statement, {"first": first, "last": last})
        connection.commit()
