"""The raw side on PostgreSQL, and the databases that a run makes for itself."""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from benchmarks.work import LIVE, Moves, raw_row
from pandora_db.dsn import parse_dsn
from pandora_db.models.target import PostgresTarget

_TABLE = """
CREATE TABLE jobs (
    job_id BIGINT PRIMARY KEY, author TEXT, requested_at BIGINT, job_type SMALLINT, preset SMALLINT,
    preset_concat SMALLINT, link TEXT, directory TEXT, ready SMALLINT, message_id BIGINT,
    channel_id BIGINT, created_at TIMESTAMP DEFAULT now(), completed_at TIMESTAMP,
    archived BOOLEAN DEFAULT FALSE
);
CREATE INDEX idx_jobs_ready ON jobs (ready) WHERE archived = FALSE;
CREATE INDEX idx_jobs_author ON jobs (author);
CREATE INDEX idx_jobs_archived ON jobs (archived);
"""
COLUMNS = (
    "job_id", "author", "requested_at", "job_type", "preset", "preset_concat", "link", "directory",
    "ready", "message_id", "channel_id",
)  # fmt: skip
INSERT = f"""
INSERT INTO jobs ({", ".join(COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""
UPDATE = "UPDATE jobs SET ready = $2 WHERE job_id = $1"


def connect_arguments(dsn: str) -> dict[str, Any]:
    """The DSN as `asyncpg.connect` takes it."""
    target = parse_dsn(dsn)
    if not isinstance(target, PostgresTarget):
        raise SystemExit("--postgres takes the DSN of a PostgreSQL server")
    return target.connect_arguments()


def _with_database(dsn: str, name: str) -> str:
    if "://" in dsn:
        return urlsplit(dsn)._replace(path=f"/{name}").geturl()
    return re.sub(r"\bdbname\s*=\s*\S+", "", dsn) + f" dbname={name}"


@asynccontextmanager
async def fresh_database(dsn: str) -> AsyncIterator[str]:
    """Yield the DSN of a new database on the server of `dsn`."""
    name = f"pandora_bench_{secrets.token_hex(4)}"
    door = await asyncpg.connect(**connect_arguments(dsn))
    try:
        await door.execute(f"CREATE DATABASE {name}")
        try:
            yield _with_database(dsn, name)
        finally:
            await door.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await door.close()


class RawPool:
    """One statement per call on asyncpg's default pool."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], seed: int) -> None:
        self.pool = pool
        self.numbers = itertools.count(LIVE)
        self._moves = Moves(list(range(LIVE)), seed)

    async def insert(self) -> None:
        """Store one row."""
        await self.pool.execute(INSERT, *raw_row(next(self.numbers)))

    async def update(self) -> None:
        """Move one row on by a stage."""
        if not self._moves.left:
            self._moves.rewind()
        await self.pool.execute(UPDATE, *self._moves.next())


@asynccontextmanager
async def raw_pool(dsn: str, seed: int) -> AsyncIterator[RawPool]:
    """Connect to an empty database and make the table with `LIVE` rows."""
    async with asyncpg.create_pool(**connect_arguments(dsn)) as pool:
        await pool.execute(_TABLE)
        await pool.copy_records_to_table("jobs", records=map(raw_row, range(LIVE)), columns=COLUMNS)
        yield RawPool(pool, seed)
