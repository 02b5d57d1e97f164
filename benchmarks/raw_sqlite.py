"""The raw side on SQLite: one aiosqlite connection at full durability, used as is usual."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiosqlite

from benchmarks.work import LIVE, Moves, raw_row

_TABLE = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE jobs (
    job_id INTEGER PRIMARY KEY, author TEXT, requested_at INTEGER, job_type INTEGER, preset INTEGER,
    preset_concat INTEGER, link TEXT, directory TEXT, ready INTEGER, message_id INTEGER,
    channel_id INTEGER, created_at TEXT DEFAULT CURRENT_TIMESTAMP, completed_at TEXT,
    archived INTEGER DEFAULT 0
);
CREATE INDEX idx_jobs_ready ON jobs (ready) WHERE archived = 0;
CREATE INDEX idx_jobs_author ON jobs (author);
CREATE INDEX idx_jobs_archived ON jobs (archived);
"""
INSERT = """
INSERT INTO jobs (job_id, author, requested_at, job_type, preset, preset_concat, link, directory,
                  ready, message_id, channel_id)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
UPDATE = "UPDATE jobs SET ready = ? WHERE job_id = ?"
SELECT = "SELECT * FROM jobs WHERE job_id = ?"


class RawSqlite:
    """The statements of the raw side; the lock makes each call a commit of its own."""

    def __init__(self, connection: aiosqlite.Connection, seed: int) -> None:
        self.connection = connection
        self.numbers = itertools.count(LIVE)
        self._lock = asyncio.Lock()
        self._moves = Moves(list(range(LIVE)), seed)
        self._reads = itertools.cycle(range(LIVE))

    async def insert(self) -> None:
        """Store one row."""
        async with self._lock:
            await self.connection.execute(INSERT, raw_row(next(self.numbers)))
            await self.connection.commit()

    async def update(self) -> None:
        """Move one row on by a stage."""
        if not self._moves.left:
            self._moves.rewind()
        job_id, stage = self._moves.next()
        async with self._lock:
            await self.connection.execute(UPDATE, (stage, job_id))
            await self.connection.commit()

    async def read(self) -> None:
        """Get one row."""
        cursor = await self.connection.execute(SELECT, (next(self._reads),))
        assert await cursor.fetchone() is not None


@asynccontextmanager
async def raw_sqlite(path: Path, seed: int) -> AsyncIterator[RawSqlite]:
    """Open a new file with `LIVE` rows."""
    async with aiosqlite.connect(path) as connection:
        await connection.executescript(_TABLE)
        await connection.executemany(INSERT, map(raw_row, range(LIVE)))
        await connection.commit()
        yield RawSqlite(connection, seed)
