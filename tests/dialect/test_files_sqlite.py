"""The SQLite file: what is made, what is refused, and that nothing is written over."""

from __future__ import annotations

import asyncio
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pandora_db import (
    ConnectionFailed,
    ForeignSchema,
    InvalidInput,
    JobDb,
    LockTimeout,
    PandoraDbError,
    SchemaMissing,
    StorageDamaged,
    StorageFull,
)
from pandora_db.testing import make_job


@pytest.fixture
async def filled(sqlite_path: Path) -> Path:
    """A sound database with some pages, at rest."""
    async with JobDb.open(sqlite_path) as db:
        await db.init_schema()
        await db.insert_jobs(make_job(link="x" * 500) for _ in range(300))
    assert [one.name for one in sqlite_path.parent.iterdir()] == ["pandora.db"]
    return sqlite_path


async def test_a_new_file_is_its_owners_only(sqlite_path: Path) -> None:
    umask = os.umask(0)
    try:
        async with JobDb.open(sqlite_path) as db:
            await db.init_schema()
            await db.insert_job(make_job())
            modes = {one.name: one.stat().st_mode & 0o777 for one in sqlite_path.parent.iterdir()}
    finally:
        os.umask(umask)

    assert modes == dict.fromkeys(["pandora.db", "pandora.db-wal", "pandora.db-shm"], 0o600)


async def test_a_missing_folder_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "x.db"
    told = re.escape(f"there is no folder {path.parent}: make it, or open with make_folders=True")
    with pytest.raises(ConnectionFailed, match=told):
        await JobDb.connect(path)
    assert list(tmp_path.iterdir()) == []


async def test_parent_folders_are_made_when_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b c" / "ü?#%41.db"
    async with JobDb.open(path, make_folders=True) as db:
        await db.init_schema()
        await db.insert_job(make_job())

    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM jobs").fetchone() == (1,)
    assert [one.name for one in path.parent.iterdir()] == [path.name]


async def test_a_relative_path_is_kept_when_the_folder_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with JobDb.open("sqlite:///here.db") as db:
        await db.init_schema()
        await db.insert_job(make_job())
    assert [one.name for one in tmp_path.iterdir()] == ["here.db"]


async def test_a_file_knows_whose_it_is(filled: Path) -> None:
    with closing(sqlite3.connect(filled)) as raw:
        assert raw.execute("PRAGMA application_id").fetchone() == (0x506E4442,)


async def use(path: Path) -> None:
    async with JobDb.open(path) as db:
        await db.init_schema()
        await db.get_active_jobs()


async def refused(path: Path, error: type[PandoraDbError], message: str) -> None:
    before = path.read_bytes()
    names = sorted(one.name for one in path.parent.iterdir())
    with pytest.raises(error, match=message) as caught:
        await use(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert sorted(one.name for one in path.parent.iterdir()) == names


async def test_an_empty_file_is_not_taken_for_a_new_one(sqlite_path: Path) -> None:
    sqlite_path.touch()

    await refused(sqlite_path, StorageDamaged, "exists but is empty")


@pytest.mark.parametrize("content", [b"x", b"SQLite format 3", b"\0" * 8192, b"PK\x03\x04" * 999])
async def test_what_is_no_database_is_refused(sqlite_path: Path, content: bytes) -> None:
    sqlite_path.write_bytes(content)

    await refused(sqlite_path, StorageDamaged, "not a SQLite database")


async def test_the_file_of_another_application_is_refused(sqlite_path: Path) -> None:
    with closing(sqlite3.connect(sqlite_path)) as raw:
        raw.execute("PRAGMA application_id = 252006674")
        raw.execute("CREATE TABLE t (a TEXT)")

    await refused(sqlite_path, ForeignSchema, "another application")


async def test_a_file_cut_short_is_refused(filled: Path) -> None:
    whole = filled.read_bytes()
    for length in (1000, 4096, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        filled.write_bytes(whole[:length])

        await refused(filled, StorageDamaged, "cut short|damaged")


async def test_a_damaged_page_is_found_by_the_deep_check(filled: Path) -> None:
    whole = bytearray(filled.read_bytes())
    seed = random.randrange(2**32)
    source = random.Random(seed)
    for _ in range(10):
        page = source.randrange(20, len(whole) // 4096)
        damaged = bytearray(whole)
        damaged[page * 4096 : page * 4096 + 64] = source.randbytes(64)
        filled.write_bytes(damaged)
        found: Any = None
        try:
            async with JobDb.open(filled) as db:
                found = (await db.health(deep=True)).integrity
        except StorageDamaged as error:
            found = str(error)
        assert found, (seed, page)


async def test_a_damaged_schema_is_a_named_error(filled: Path) -> None:
    damaged = bytearray(filled.read_bytes())
    damaged[100:4096] = b"\xff" * 3996
    filled.write_bytes(damaged)

    with pytest.raises(StorageDamaged, match="restore a backup"):
        async with JobDb.open(filled) as db:
            await db.get_active_jobs()


async def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFailed, match=r"not a file \("):
        await JobDb.connect(tmp_path)
    below = Path(__file__) / "below-a-file" / "x.db"
    with pytest.raises(ConnectionFailed, match=r"there is no folder .*below-a-file"):
        await JobDb.connect(below)
    with pytest.raises(ConnectionFailed, match="cannot be used"):
        await JobDb.connect(below, make_folders=True)


async def test_a_device_is_no_file() -> None:
    with pytest.raises(ConnectionFailed, match="not a file"):
        await JobDb.connect("/dev/null")


async def test_a_url_that_is_none_is_refused() -> None:
    for url in ("", "sqlite:///", "sqlite://host/x.db", "mysql://x/y", "sqlite:///x?mode=ro", 7):
        with pytest.raises(InvalidInput):
            await JobDb.connect(url)  # type: ignore[arg-type]


READS_ONLY = """
    import asyncio, sys
    from pandora_db import Job, JobDb, PandoraDbError

    async def main(path):
        async with JobDb.open(path) as db:
            print(await db.count_jobs())
            await db.insert_job(Job(author="x"))

    try:
        asyncio.run(main(sys.argv[1]))
    except PandoraDbError as error:
        print(type(error).__name__, error)
"""


@pytest.mark.parametrize("what", ["file", "folder", "unreadable"])
async def test_a_file_that_may_not_be_written_is_a_named_error(filled: Path, what: str) -> None:
    """Permissions do not bind root, so root's power over them is taken from the child."""
    folder = Path(tempfile.mkdtemp(prefix="pandora-ro-"))
    path = folder / "pandora.db"
    try:
        shutil.copy(filled, path)
        path.chmod({"file": 0o444, "folder": 0o644, "unreadable": 0o000}[what])
        folder.chmod(0o555 if what == "folder" else 0o755)
        command = [sys.executable, "-c", textwrap.dedent(READS_ONLY), str(path)]
        if os.geteuid() == 0:
            setpriv = shutil.which("setpriv")
            if setpriv is None:
                pytest.skip("root is bound by no permission, and there is no setpriv to change it")
            command = [setpriv, "--bounding-set=-dac_override,-dac_read_search", *command]
        before = path.stat().st_size
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

        assert done.stderr == ""
        last = done.stdout.splitlines()[-1]
        assert last.split()[0] in {"StorageReadOnly", "ConnectionFailed"}, done.stdout
        assert str(path) in last
        assert path.stat().st_size == before
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


async def test_a_full_disk_keeps_what_was_acknowledged_and_goes_on(filled: Path) -> None:
    """SQLite's own cap on pages answers as a full disk does."""
    async with JobDb.open(filled) as db:
        driver: Any = db._driver
        hop = driver._writer.hop
        (pages,) = await hop.submit(lambda raw: raw.execute("PRAGMA page_count").fetchone())
        await hop.submit(
            lambda raw: raw.execute(f"PRAGMA max_page_count = {pages + 20}").fetchall()
        )
        told: list[int] = []

        async def inserts() -> None:
            while True:
                told.append(await db.insert_job(make_job(link="x" * 8000)))

        with pytest.raises(StorageFull, match=f"no room on the disk of {filled}"):
            await inserts()
        with pytest.raises(StorageFull):
            await db.insert_jobs(make_job(link="x" * 8000) for _ in range(100))

        assert len(told) > 1
        assert len(await db.get_jobs_by_ids(told)) == len(told)
        assert await db.count_jobs() == 300 + len(told)
        await hop.submit(lambda raw: raw.execute("PRAGMA max_page_count = 100000").fetchall())
        await db.insert_job(make_job(link="x" * 8000))
        assert (await db.health(deep=True)).integrity == []


async def test_a_file_that_stays_locked_is_given_up_in_time(filled: Path) -> None:
    with closing(sqlite3.connect(filled, isolation_level=None)) as theirs:
        theirs.execute("BEGIN IMMEDIATE")
        async with JobDb.open(filled, lock_timeout=0.2) as db:
            assert await db.count_jobs() == 300
            with pytest.raises(LockTimeout, match=r"locked longer than lock_timeout.*stays open"):
                await db.insert_job(make_job())
            theirs.execute("ROLLBACK")
            await db.insert_job(make_job())


async def test_a_table_that_went_away_is_named(filled: Path) -> None:
    async with JobDb.open(filled) as db:
        with closing(sqlite3.connect(filled)) as theirs:
            theirs.execute("DROP TABLE jobs")
        with pytest.raises(SchemaMissing, match=r"no such table.*init_schema\(\)"):
            await db.get_active_jobs()


_ANOTHER_PROCESS = """
import asyncio, sys
from pandora_db import JobDb
from pandora_db.testing import make_job

async def insert():
    async with JobDb.open(sys.argv[1], sweep=None) as db:
        await db.insert_job(make_job(job_id=int(sys.argv[2])))

asyncio.run(insert())
"""


async def test_a_second_handle_takes_no_lock_from_the_first(filled: Path) -> None:
    """Else the next process to close the file deletes the WAL that the first one writes to."""

    async def another(job_id: int) -> None:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _ANOTHER_PROCESS, str(filled), str(job_id)
        )
        assert await process.wait() == 0

    async with JobDb.open(filled, sweep=None) as first:
        async with JobDb.open(filled, sweep=None) as second:
            await another(1001)
            await first.insert_job(make_job(job_id=1002))
            await second.insert_job(make_job(job_id=1003))
        await first.insert_job(make_job(job_id=1004))
        await another(1005)
        found = await first.get_jobs_by_ids(range(1001, 1006))
        assert [job.job_id for job in found] == [1001, 1002, 1003, 1004, 1005]

    async with JobDb.open(filled, sweep=None) as later:
        assert len(await later.get_jobs_by_ids(range(1001, 1006))) == 5
