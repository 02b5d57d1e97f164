"""Databases that come and go with a test."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pandora_db.db import JobDb, internals
from pandora_db.dsn import PostgresTarget, parse_dsn
from pandora_db.errors import InvalidInput

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator

_MEMORY = ":memory:"
# Handles of new_test_db() that are still in use; only these may be emptied.
_handles: list[JobDb] = []


@asynccontextmanager
async def new_test_db(
    url: str | None = None,
    *,
    temporary_file: bool | str | os.PathLike[str] = False,
    **settings: Any,  # noqa: ANN401 - Settings checks them
) -> AsyncGenerator[JobDb]:
    """Open an empty, migrated database that nobody else uses, and take it away afterwards.

    Args:
        url: None, or a PostgreSQL URL whose role may create schemas: the tables are made in a new
            schema with a random name, which is dropped afterwards.
        temporary_file: instead of memory, a SQLite file: True makes it in a new folder, a path
            makes it there, where nothing may be yet.
        **settings: fields of `Settings`.

    Raises:
        InvalidInput: `url` is not one of PostgreSQL, the file exists already, or a setting is
            refused.
        ConnectionFailed: no server answers at `url`.
    """
    if url is not None:
        if temporary_file is not False or not isinstance(parse_dsn(url), PostgresTarget):
            raise InvalidInput(
                "new_test_db() takes the URL of a PostgreSQL server, or none for SQLite in memory, "
                "or temporary_file=True for a SQLite file",
                field="url",
            )
        async with _test_schema(url, settings) as db:
            yield db
    elif temporary_file is False:
        async with _test_handle(_MEMORY, settings) as db:
            yield db
    else:
        async with _test_file(temporary_file, settings) as db:
            yield db


async def reset(db: JobDb) -> None:
    """Empty a test database, histories included; the next generated id is 1 again.

    Args:
        db: the handle of a `new_test_db()` that is still open.

    Raises:
        InvalidInput: the handle is another one; nothing was deleted.
    """
    check_test_db(db, "reset")
    await _run(db, "reset_tables")


def check_test_db(db: JobDb, name: str) -> JobDb:
    """Refuse any handle but an open one of `new_test_db()`."""
    if not any(handle is db for handle in _handles):
        raise InvalidInput(
            f"{name}() was given a handle that new_test_db() did not make, or that it has closed; "
            "expected one of an open `async with new_test_db()`, as every job in it is changed",
            field="db",
        )
    return db


@asynccontextmanager
async def _test_handle(
    url: str | os.PathLike[str], settings: dict[str, Any]
) -> AsyncGenerator[JobDb]:
    async with JobDb.open(url, **settings) as db:
        await db.init_schema()
        _handles.append(db)
        try:
            yield db
        finally:
            _handles[:] = [handle for handle in _handles if handle is not db]


@asynccontextmanager
async def _test_file(
    wanted: bool | str | os.PathLike[str],  # noqa: FBT001 - it is new_test_db's own argument
    settings: dict[str, Any],
) -> AsyncGenerator[JobDb]:
    with tempfile.TemporaryDirectory(prefix="pandora-db-") as folder:
        path = Path(folder) / "pandora.db" if isinstance(wanted, bool) else Path(wanted)
        if path.exists():
            raise InvalidInput(
                f"temporary_file is {path}, which exists; expected a path where nothing is yet",
                field="temporary_file",
            )
        try:
            async with _test_handle(path, settings) as db:
                yield db
        finally:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)  # noqa: ASYNC240 - a test's own


@asynccontextmanager
async def _test_schema(url: str, settings: dict[str, Any]) -> AsyncGenerator[JobDb]:
    settings = {**settings, "schema": f"pandora_test_{secrets.token_hex(8)}"}
    try:
        async with _test_handle(url, settings) as db:
            yield db
    finally:
        async with JobDb.open(url, **settings) as door:
            await _run(door, "drop_test_schema")


async def _run(db: JobDb, name: str) -> None:
    # Emptying a database is no method of the handle.
    driver = internals(db).driver
    async with driver.migrating() as migrator:
        for statement in driver.queries.get(name).statements:
            await migrator.run(statement.text)
