"""Databases for single tests: cloned from a migrated template, dropped afterwards."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pandora_db import JobDb

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.provider import Server


def migrate(url: str) -> None:
    """Run `init_schema()` on `url`, on an event loop of its own in a thread of its own."""

    async def run() -> None:
        async with JobDb.open(url) as db:
            await db.init_schema()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, run()).result()


class PostgresDatabases:
    """Makes and drops databases on one server, over psycopg."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._template: str | None = None

    @contextmanager
    def fresh(self, *, migrated: bool = False) -> Iterator[str]:
        """Yield the DSN of a new database, empty or with the schema of `init_schema()`."""
        name = self._create(self._migrated_template() if migrated else None)
        try:
            yield self._dsn(name)
        finally:
            self._drop(name)

    def close(self) -> None:
        """Drop the template."""
        if self._template is not None:
            self._drop(self._template)

    def _migrated_template(self) -> str:
        if self._template is None:
            name = self._create(None)
            try:
                migrate(self._dsn(name))
            except BaseException:
                self._drop(name)
                raise
            self._template = name
        return self._template

    def _dsn(self, database: str) -> str:
        return make_conninfo(self.server.dsn, dbname=database)

    def _create(self, template: str | None) -> str:
        name = f"pandora_test_{secrets.token_hex(6)}"
        # template0 where the server's default encoding or template1 was changed by somebody.
        source = sql.Identifier(template or "template0")
        self._execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), source)
        )
        return name

    def _drop(self, name: str) -> None:
        self._execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.server.dsn, autocommit=True) as connection:
            connection.execute(statement)
