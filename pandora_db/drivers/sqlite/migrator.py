"""Changing the schema of a SQLite file."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

from pandora_db.drivers.sqlite.transaction import SqliteTransaction, Submit
from pandora_db.drivers.tasks import settle
from pandora_db.errors import LockTimeout, StorageError
from pandora_db.sqlfiles import Catalogue


class SqliteMigrator(SqliteTransaction):
    """A transaction that may change the schema; the write lock of the file keeps others out."""

    def __init__(self, submit: Submit, queries: Catalogue, path: Path | None) -> None:
        super().__init__(submit, queries, str(path or ":memory:"))
        self._file = path

    async def begin_within(self, seconds: float) -> None:
        """Take the write lock, however many other processes are migrating."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while True:
            try:
                return await self.begin()
            except LockTimeout:
                if loop.time() > deadline:
                    raise

    async def run(self, statement: str) -> None:
        """See `Migrator.run`."""
        await self._say(statement)

    async def backup(self, version: int) -> str | None:
        """Copy what is committed to a file beside the database; None in memory."""
        if self._file is None:
            return None
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        copy = self._file.with_name(f"{self._file.name}.v{version}-{now}.backup")
        try:
            await settle(asyncio.ensure_future(asyncio.to_thread(_copy, self._file, copy)))
        except (OSError, sqlite3.Error) as error:
            with suppress(OSError):
                copy.unlink()
            raise StorageError(
                f"the backup {copy} could not be written: {error}; nothing was upgraded"
            ) from error
        return str(copy)


def _copy(source: Path, target: Path) -> None:
    target.touch(mode=0o600, exist_ok=False)
    with closing(sqlite3.connect(source)) as reading, closing(sqlite3.connect(target)) as writing:
        reading.execute("PRAGMA wal_autocheckpoint = 0")
        reading.backup(writing)
