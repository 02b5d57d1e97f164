"""Changing the schema of a PostgreSQL database."""

from __future__ import annotations

from pandora_db.drivers.base import MIGRATION_PATIENCE
from pandora_db.drivers.postgres.transaction import PostgresTransaction


class PostgresMigrator(PostgresTransaction):
    """A transaction under the advisory lock of the schema; what it waits for is bounded."""

    _patience = MIGRATION_PATIENCE

    async def begin(self, lock_timeout: float) -> None:
        """Wait long for other migrating processes, and `lock_timeout` seconds for a table."""
        patience = self._patience
        await super().run("BEGIN ISOLATION LEVEL READ COMMITTED")
        await super().run(f"SET LOCAL statement_timeout = {round(patience * 1000)}")
        await super().run(f"SET LOCAL lock_timeout = {round(patience * 1000)}")
        await self._fetch(self._queries.get("lock_schema").text, (), timeout=patience + 1.0)
        await super().run(f"SET LOCAL lock_timeout = {max(round(lock_timeout * 1000), 1)}")

    async def run(self, statement: str, timeout: float | None = None) -> None:
        """See `Migrator.run`."""
        await super().run(statement, timeout or self._patience + 1.0)

    async def backup(self, version: int) -> str | None:
        """None: a server's backups are the server's affair."""
        del version
        return None
