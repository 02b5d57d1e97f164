"""Many processes call `init_schema()` at once (T17)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg

from tests.faults.migration_race import LIBPNDB, rounds

if TYPE_CHECKING:
    from pathlib import Path

PROCESSES = 32


async def test_many_processes_make_one_sqlite_schema(tmp_path: Path, seed: int) -> None:
    files = iter(range(10))

    tally = await rounds(seed, 2, PROCESSES, lambda: f"sqlite:///{tmp_path}/{next(files)}.db")

    assert tally["failures"] == 0


async def test_many_processes_make_one_postgres_schema(postgres_dsn: str, seed: int) -> None:
    tally = await rounds(seed, 2, PROCESSES, lambda: _emptied(postgres_dsn, ""))

    assert tally["failures"] == 0


async def test_many_processes_adopt_one_libpndb_database(postgres_dsn: str, seed: int) -> None:
    tally = await rounds(seed, 2, PROCESSES, lambda: _emptied(postgres_dsn, LIBPNDB), rows=500)

    assert tally["failures"] == 0


def _emptied(dsn: str, script: str) -> str:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute(script.encode())
    return dsn
