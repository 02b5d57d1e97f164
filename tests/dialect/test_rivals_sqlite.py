"""Another writer on the file of a SQLite that several of them can damage is warned of, once."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pandora_db import JobDb, Stage
from pandora_db.drivers.sqlite import driver
from pandora_db.drivers.sqlite.health import wal_reset_race
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from pathlib import Path

WRITES = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
with connection:
    connection.execute("UPDATE jobs SET priority = priority + 1")
connection.close()
"""


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


def another_process_writes(path: Path) -> None:
    subprocess.run([sys.executable, "-c", WRITES, str(path)], check=True, timeout=30)


@pytest.fixture
def affected(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """As on a SQLite that has the fault, whichever this one is."""
    monkeypatch.setattr(driver, "wal_reset_race", lambda _: True)
    caplog.set_level(logging.INFO, "pandora_db")


async def test_another_process_that_writes_is_warned_of_once(
    affected: None, sqlite_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        await db.insert_job(make_job())
        assert warnings(caplog) == []

        for _ in range(2):
            another_process_writes(sqlite_path)
            await db.insert_job(make_job())

    (told,) = warnings(caplog)
    assert told.startswith(f"{sqlite_path} has a second writer")
    assert "one process per file" in told


async def test_what_a_handle_does_by_itself_warns_of_nothing(
    affected: None, sqlite_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with JobDb.open(sqlite_path, lease=1.0, heartbeat=0.05, sweep=0.05) as db:
        await db.init_schema()
        await db.insert_jobs(make_job() for _ in range(20))
        async with db.transaction() as tx:
            await tx.insert_job(make_job())
        claims = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=3)
        await db.renew_claims(claims)
        for claim in claims:
            await db.save_checkpoint(claim, {"at": 1})
            await db.finish_job(claim, Stage.DOWNLOADED)
        await db.recover()

    assert warnings(caplog) == []
    assert any("safe for one process per file" in one.getMessage() for one in caplog.records)


async def test_a_sound_sqlite_warns_of_no_other_process(
    monkeypatch: pytest.MonkeyPatch, sqlite_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(driver, "wal_reset_race", lambda _: False)
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        await db.insert_job(make_job())
        another_process_writes(sqlite_path)
        await db.insert_job(make_job())

    assert warnings(caplog) == []


@pytest.mark.parametrize(
    ("version", "has_it"),
    [
        ((3, 40, 1), True), ((3, 44, 5), True), ((3, 44, 6), False), ((3, 45, 0), True),
        ((3, 50, 7), False), ((3, 51, 2), True), ((3, 51, 3), False), ((3, 60, 0), False),
    ],
)  # fmt: skip
def test_the_versions_that_have_the_fault(version: tuple[int, int, int], has_it: bool) -> None:
    assert wal_reset_race(version) is has_it
