"""P11 on SQLite: the backup before an upgrade, and CHECKs that hide in a table's text."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pandora_db import JobDb, PandoraDbError, Stage, migrations
from pandora_db.migrations import Migration, expected_schema, load_migrations
from pandora_db.testing import insert_job_at, make_job

if TYPE_CHECKING:
    from pathlib import Path

SECOND = "-- lock: the file, from writers\nALTER TABLE jobs ADD COLUMN colour TEXT;\n"


def ship_second(monkeypatch: pytest.MonkeyPatch, text: str = SECOND) -> None:
    """As if the next release came with one more migration."""
    (first,) = load_migrations("sqlite")
    both = (first, Migration(2, "0002_colour", text))
    monkeypatch.setattr(migrations, "load_migrations", lambda _: both)


async def test_a_backup_is_written_before_an_upgrade(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        job_id = await insert_job_at(db, Stage.UPLOADED, author="mika")
        row = await db.get_job(job_id)
        assert len(list(sqlite_path.parent.iterdir())) == 3, "none was needed for the first"
        ship_second(monkeypatch)
        plan = await db.plan_schema()
        assert (plan.current, plan.target, len(plan.steps)) == (1, 2, 1)

        await db.init_schema()
        await db.init_schema()

        assert await db.get_job(job_id) == row
        await db.insert_job(make_job())

    (copy,) = sqlite_path.parent.glob("*.backup")
    assert copy.name.startswith("pandora.db.v1-")
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as old:
        assert old.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert "colour" not in [name for _, name, *_ in old.execute("PRAGMA table_info(jobs)")]
        assert old.execute("SELECT version FROM pandora_migrations").fetchall() == [(1,)]
    monkeypatch.undo()
    async with JobDb.open(copy) as restored:
        assert await restored.get_job(job_id) == row
        assert await restored.verify_schema() == []


async def test_an_upgrade_that_fails_changes_nothing_and_may_be_repeated_at_once(
    sqlite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        ship_second(monkeypatch, SECOND + "INSERT INTO nowhere VALUES (1);\n")
        for _ in range(3):  # within one second
            with pytest.raises(PandoraDbError, match="nowhere"):
                await db.init_schema()
        monkeypatch.undo()
        ship_second(monkeypatch)
        await db.init_schema()
        await db.insert_job(make_job())


async def test_no_backup_no_upgrade(sqlite_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        ship_second(monkeypatch)
        monkeypatch.setattr("pandora_db.drivers.sqlite.migrator._copy", full)

        with pytest.raises(PandoraDbError, match=r"backup.*No space left"):
            await db.init_schema()

        assert (await db.plan_schema()).pending
        await db.insert_job(make_job())


async def test_a_repeated_init_schema_writes_nothing(sqlite_path: Path) -> None:
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        with closing(sqlite3.connect(sqlite_path)) as watcher:
            look = "PRAGMA data_version"
            before = watcher.execute(look).fetchone(), watcher.execute("PRAGMA schema_version")
            version = before[1].fetchone()
            for _ in range(3):
                await db.init_schema()
                await db.plan_schema()
            assert watcher.execute(look).fetchone() == before[0]
            assert watcher.execute("PRAGMA schema_version").fetchone() == version


async def test_a_memory_database_is_migrated_without_a_backup() -> None:
    async with JobDb.open(":memory:") as db:
        await db.init_schema()
        await db.init_schema()
        assert await db.verify_schema() == []


def checks() -> list[tuple[str, str]]:
    """(table, name) of every CHECK that the shipped schema has."""
    pairs = [name.split(".") for kind, name in expected_schema("sqlite") if kind == "check"]
    return [(table, check) for table, check in pairs]


async def test_a_check_that_was_dropped_is_named(sqlite_path: Path) -> None:
    assert len(checks()) >= 8
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        for table, check in checks():
            with closing(sqlite3.connect(sqlite_path, isolation_level=None)) as raw:
                (sql,) = raw.execute(
                    "SELECT sql FROM sqlite_master WHERE name = ?", [table]
                ).fetchone()
                edit(raw, table, without(sql, check))
                (difference,) = await db.verify_schema()
                assert (difference.kind, difference.name) == ("check", f"{table}.{check}")
                assert difference.found is None
                edit(raw, table, sql)
        assert await db.verify_schema() == []


def without(sql: str, check: str) -> str:
    found = re.search(rf"CONSTRAINT {check}\s+CHECK", sql)
    assert found is not None
    start, depth = found.start(), 0
    for end in range(start + sql[start:].index("("), len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[end], 0)
        if depth == 0:
            return sql[:start] + sql[end + 1 :]
    raise AssertionError(sql)


def edit(raw: sqlite3.Connection, table: str, sql: str) -> None:
    (version,) = raw.execute("PRAGMA schema_version").fetchone()
    raw.execute("PRAGMA writable_schema = ON")
    raw.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", [sql, table])
    raw.execute(f"PRAGMA schema_version = {version + 1}")
    raw.execute("PRAGMA writable_schema = OFF")


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO jobs (job_id, author) VALUES (5, x'00ff')",
        "INSERT INTO jobs (job_id, ready) VALUES (5, 'Queued')",
        "INSERT INTO jobs (job_id, hold) VALUES (5, 3)",
        "INSERT INTO jobs (job_id, progress) VALUES (5, 1.5)",
        "INSERT INTO jobs (job_id, config) VALUES (5, '{')",
        "UPDATE job_ids SET value = -1",
        "INSERT INTO job_ids VALUES (2, 5)",
        "INSERT INTO stages VALUES (50, 1, 'x', 'happy', NULL)",
    ],
)
async def test_the_tables_refuse_what_is_no_value_of_theirs(
    sqlite_path: Path, statement: str
) -> None:
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        with (
            closing(sqlite3.connect(sqlite_path)) as raw,
            pytest.raises(sqlite3.IntegrityError, match=r"constraint failed|cannot store"),
        ):
            raw.execute(statement)
        assert await db.count_jobs() == 0
