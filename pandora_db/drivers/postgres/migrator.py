"""Changing the schema of a PostgreSQL database."""

from __future__ import annotations

from pandora_db.drivers.postgres.transaction import PostgresTransaction


class PostgresMigrator(PostgresTransaction):
    """A transaction under the advisory lock of the schema; what it waits for is bounded."""

    async def begin(self, lock_timeout: float, patience: float) -> None:
        """Wait `patience` seconds for other migrating processes, `lock_timeout` for a table."""
        await super().run("BEGIN")
        await super().run(f"SET LOCAL statement_timeout = {round(patience * 1000)}")
        await super().run(f"SET LOCAL lock_timeout = {round(patience * 1000)}")
        await self._fetch(self._queries.get("lock_schema").text, (), timeout=patience + 1.0)
        await super().run(f"SET LOCAL lock_timeout = {round(lock_timeout * 1000)}")
        self._patience = patience

    async def run(self, statement: str, timeout: float | None = None) -> None:
        """See `Migrator.run`."""
        await super().run(statement, timeout or self._patience + 1.0)

    async def backup(self, version: int) -> str | None:
        """None: a server's backups are the server's affair."""
        del version
        return None
