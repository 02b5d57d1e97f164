"""Parts of the encode queue that a whole run seldom meets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from examples.encode_queue.facts import Workspace
from examples.encode_queue.failure import StepError
from examples.encode_queue.ffmpeg import probe, run_ffmpeg
from examples.encode_queue.report import stage_seconds
from examples.encode_queue.resume import pick_up
from examples.encode_queue.screen import PlainScreen
from pandora_db import EventKind, Job, JobDb, JobEvent, Stage


class Notes(PlainScreen):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


async def left_at(db: JobDb, folder: Path, stage: Stage, files: list[str], source: Path) -> int:
    """A job that an earlier run left at `stage`, with these files in its folder."""
    job_id = await db.get_next_job_id()
    space = Workspace(folder / str(job_id))
    space.folder.mkdir()
    for name in files:
        (space.folder / name).touch()
    config = {"file": str(source), "title": source.name}
    await db.insert_job(Job(author="mika", job_id=job_id, directory=space.folder, config=config))
    if stage > Stage.QUEUED:
        await db.update_stage(job_id, stage)
    return job_id


@pytest.mark.parametrize(
    ("found", "files", "expected"),
    [
        (Stage.QUEUED, [], Stage.QUEUED),
        (Stage.DOWNLOADING, ["source.part"], Stage.QUEUED),
        (Stage.DOWNLOADING, ["source"], Stage.DOWNLOADED),
        (Stage.DOWNLOADED, ["source"], Stage.DOWNLOADED),
        (Stage.DOWNLOADED, [], Stage.QUEUED),
        (Stage.ENCODING, ["source"], Stage.DOWNLOADED),
        (Stage.ENCODING, ["source", "encoded.mp4"], Stage.ENCODED),
        (Stage.ENCODED, ["source"], Stage.DOWNLOADED),
        (Stage.UPLOADING, ["source", "encoded.mp4"], Stage.ENCODED),
        (Stage.UPLOADING, [], Stage.QUEUED),
    ],
)
async def test_a_left_job_goes_on_where_its_files_allow(
    db: JobDb, tmp_path: Path, found: Stage, files: list[str], expected: Stage
) -> None:
    source = tmp_path / "film.mkv"
    source.touch()
    job_id = await left_at(db, tmp_path, found, files, source)
    (job,) = await pick_up(db, Notes())
    assert (job.job_id, Stage(job.ready), job.archived) == (job_id, expected, False)


async def test_a_left_job_without_any_source_fails(db: JobDb, tmp_path: Path) -> None:
    await left_at(db, tmp_path, Stage.ENCODING, [], tmp_path / "gone.mkv")
    screen = Notes()
    (job,) = await pick_up(db, screen)
    assert (Stage(job.ready), job.archived) == (Stage.FAILED, True)
    assert job.error == "the source gone.mkv is gone, and so is the downloaded copy"
    assert len(screen.notes) == 1


def test_interrupted_work_is_not_counted_as_time_in_its_stage() -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    moves = [
        (0, EventKind.INSERTED, Stage.QUEUED),
        (2, EventKind.STAGE, Stage.ENCODING),
        (900, EventKind.REQUEUED, Stage.QUEUED),
        (901, EventKind.STAGE, Stage.ENCODING),
        (905, EventKind.UPDATED, Stage.ENCODING),
        (911, EventKind.STAGE, Stage.UPLOADED),
        (912, EventKind.ARCHIVED, Stage.UPLOADED),
    ]
    events = [
        JobEvent(1, seq, begin + timedelta(seconds=at), kind, stage.value)
        for seq, (at, kind, stage) in enumerate(moves, 1)
    ]
    assert stage_seconds(events) == {Stage.QUEUED: 3.0, Stage.ENCODING: 10.0}


async def test_an_error_of_ffmpeg_is_the_end_of_its_stderr(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="No such file or directory"):
        await run_ffmpeg("-i", str(tmp_path / "none.mkv"), str(tmp_path / "out.mp4"))


async def test_probe_reads_length_size_and_sound(tmp_path: Path) -> None:
    path = tmp_path / "silent.mkv"
    await run_ffmpeg("-f", "lavfi", "-i", "color=size=64x48:duration=1.5", str(path))
    media = await probe(path)
    assert (media.width, media.height, media.has_audio) == (64, 48, False)
    assert media.seconds == pytest.approx(1.5, abs=0.1)
