"""The folders of jobs that ended long ago are removed, and no others."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from pandora_db import InvalidInput, Job, JobDb, Stage
from pandora_db.runtime import JobContext, JobManager, Pipeline
from pandora_db.runtime.data_dirs import DataDirs, dirs_of
from pandora_db.runtime.retention import Retention
from tests.support.handlers import DOWNLOAD, ENCODE, FAST, one_stage
from tests.support.waiting import wait_until


async def retention(db: JobDb, root: Path, keep: float = 0.0) -> Retention:
    return Retention(db, await dirs_of(db, root), keep)


async def job_with_folder(db: JobDb, root: Path) -> int:
    job_id = await db.insert_job(Job(author="mika"))
    ((await dirs_of(db, root)).make(job_id) / "part").write_text("x")
    return job_id


def folders(root: Path) -> set[str]:
    return {path.name for path in root.iterdir() if path.is_dir()} - {".pandora_db"}


def marks(root: Path) -> list[Path]:
    return list((root / ".pandora_db").iterdir())


async def test_only_folders_of_jobs_that_have_ended_go(
    db: JobDb, db_url: str, tmp_path: Path
) -> None:
    root = tmp_path / "data"
    queued, works, retries, paused, done, failed, cancelled, deleted = [
        await job_with_folder(db, root) for _ in range(8)
    ]
    async with JobDb.open(db_url) as other:  # as another process would
        claim = await other.claim_job(works, into=Stage.DOWNLOADING)
        again = await other.claim_job(retries, into=Stage.DOWNLOADING)
        assert claim is not None
        assert again is not None
        await other.fail_job(again, "broken", retry_in=1000.0)
        await db.pause_job(paused)
        await db.update_stage(done, Stage.UPLOADED)
        await db.update_stage(failed, Stage.FAILED)
        await db.cancel_job(cancelled)
        await db.delete_job(deleted)

        assert await (await retention(db, root, keep=1000.0)).look() == [], "none is old enough"
        await asyncio.sleep(0.01)
        gone = await (await retention(db, root)).look()

        assert gone == [done, failed, cancelled, deleted]
        assert folders(root) == {str(job_id) for job_id in (queued, works, retries, paused)}
        assert len(marks(root)) == 4
        await other.release_job(claim)


async def test_what_is_not_marked_or_another_databases_stays(db: JobDb, tmp_path: Path) -> None:
    mine = await job_with_folder(db, tmp_path)
    shared = await job_with_folder(db, tmp_path)
    DataDirs(tmp_path, "another database").make(shared)
    (tmp_path / "2024").mkdir()
    theirs = 77
    DataDirs(tmp_path, "another database").make(theirs)
    for job_id in (mine, shared):
        await db.update_stage(job_id, Stage.UPLOADED)
    await asyncio.sleep(0.01)

    assert await (await retention(db, tmp_path)).look() == [mine]
    assert folders(tmp_path) == {str(shared), "2024", str(theirs)}


async def test_a_kill_at_any_point_leaves_nothing_for_ever(
    db: JobDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the folder was taken away, and while it is removed."""
    hidden, half = [await job_with_folder(db, tmp_path) for _ in range(2)]
    for job_id in (hidden, half):
        await db.update_stage(job_id, Stage.UPLOADED)
    await asyncio.sleep(0.01)
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        await (await retention(db, tmp_path)).look()
    monkeypatch.setattr(Path, "unlink", unlink)
    assert folders(tmp_path) == {str(half)}
    assert any(path.name.endswith(".gone") for path in marks(tmp_path))

    assert await (await retention(db, tmp_path)).look() == [hidden, half]
    assert folders(tmp_path) == set()
    assert marks(tmp_path) == []


async def test_a_job_that_is_begun_again_at_that_moment_keeps_its_folder(
    db: JobDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the removal somebody takes it back."""
    job_id = await job_with_folder(db, tmp_path)
    await db.update_stage(job_id, Stage.FAILED)
    await asyncio.sleep(0.01)
    look = db.get_jobs_by_ids

    async def late(ids: Any) -> Any:
        rows = await look(ids)
        await db.retry_job(job_id)
        return rows

    monkeypatch.setattr(db, "get_jobs_by_ids", late)
    assert await (await retention(db, tmp_path)).look() == []
    assert (tmp_path / str(job_id) / "part").read_text() == "x"


async def test_workers_remove_folders_while_they_work(
    db: JobDb, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    pipeline = Pipeline()
    go = asyncio.Event()

    @pipeline.stage(*DOWNLOAD)
    async def download(ctx: JobContext) -> None:
        (ctx.data_dir / "part").write_text("x")

    @pipeline.stage(*ENCODE)
    async def encode(ctx: JobContext) -> None:
        await go.wait()
        assert (ctx.data_dir / "part").read_text() == "x"

    @pipeline.stage(Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED)
    async def upload(ctx: JobContext) -> None: ...

    job_id = await db.insert_job(Job(author="mika"))
    async with pipeline.running(db, data_root=tmp_path, keep_data=0.0, **FAST) as crew:
        await wait_until(lambda: crew.running and (tmp_path / str(job_id) / "part").exists())
        await asyncio.sleep(1.5)
        assert (tmp_path / str(job_id) / "part").exists()
        go.set()
        await wait_until(lambda: not (tmp_path / str(job_id)).exists(), timeout=5)
        await wait_until(lambda: "removed the folders of 1 ended job" in caplog.messages)


def test_a_time_to_keep_needs_a_root(db: JobDb) -> None:
    pipeline = one_stage(_nothing)
    with pytest.raises(InvalidInput, match="keep_data was given without data_root"):
        pipeline.running(db, keep_data=1.0)


def test_a_root_without_a_name_is_refused(db: JobDb) -> None:
    """As a path it would be the folder in which the program happens to be."""
    for make in (JobManager, one_stage(_nothing).running):
        with pytest.raises(InvalidInput, match="data_root is an empty text") as refused:
            make(db, data_root="")
        assert refused.value.field == "data_root"


async def _nothing(ctx: JobContext) -> None: ...


async def test_what_others_left_among_the_marks_stops_nothing(db: JobDb, tmp_path: Path) -> None:
    root = tmp_path / "data"
    job_id = await job_with_folder(db, root)
    await db.cancel_job(job_id)
    strange = root / ".pandora_db"
    (strange / "7777").mkdir()
    (strange / "8888").write_bytes(b"\xff\xfe")
    (strange / str(2**64)).write_text("any")
    (strange / "x.gone").write_text("no folder")

    assert await (await retention(db, root)).look() == [job_id]
    assert {path.name for path in marks(root)} == {"7777", "8888", str(2**64)}


async def test_a_database_knows_its_folders_by_itself(
    db: JobDb, db_url: str, tmp_path: Path
) -> None:
    """However it is called by whoever opens it, and whatever another one is called."""
    job_id = await job_with_folder(db, tmp_path)
    async with JobDb.open(db_url, sweep=None) as again, JobDb.open(":memory:") as other:
        await other.init_schema()
        assert set((await dirs_of(again, tmp_path)).marked()) == {job_id}
        assert (await dirs_of(other, tmp_path)).marked() == {}
