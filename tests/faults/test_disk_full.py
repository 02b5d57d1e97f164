"""A disk without room under a SQLite file (T11)."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pandora_db import JobDb, StorageFull
from tests.faults.calls import make_job
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE = 1_500_000


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        # A file that is still open, though the handle is closed, would keep it busy.
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder):
        yield folder


async def test_a_full_disk_loses_nothing_and_writing_resumes_with_room(disk: Path) -> None:
    async with JobDb.open(disk / "pandora.db") as db:
        await db.init_schema()
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 300_000)
        stored: list[int] = []

        async def fill() -> None:
            while True:
                stored.append(await db.insert_job(make_job("a", directory="d" * 3000)))

        with pytest.raises(StorageFull):
            await fill()
        with pytest.raises(StorageFull):
            await db.insert_jobs([make_job("bulk", directory="d" * 3000)] * 200)

        assert [row.job_id for row in await db.get_jobs_by_ids(stored)] == stored
        assert await db.count_jobs(author="bulk") == 0
        ballast.unlink()

        async def resumes() -> bool:
            try:
                return await db.insert_job(make_job("b")) > 0
            except StorageFull:
                return False

        await wait_until(resumes, timeout=2.0)
        assert await db.count_jobs() == len(stored) + 1
        assert (await db.health(deep=True)).integrity == []
    async with JobDb.open(disk / "pandora.db") as db:
        assert await db.count_jobs() == len(stored) + 1


async def test_a_transaction_on_a_full_disk_is_undone_as_a_whole(disk: Path) -> None:
    async with JobDb.open(disk / "pandora.db") as db:
        await db.init_schema()
        (disk / "ballast").write_bytes(b"x" * 700_000)

        async def fill() -> None:
            async with db.transaction() as tx:
                for _ in range(1000):
                    await tx.insert_job(make_job("a", directory="d" * 4000))

        with pytest.raises(StorageFull):
            await fill()

        assert await db.count_jobs() == 0
        (disk / "ballast").unlink()
        assert await db.insert_job(make_job("b")) > 0
