"""Parts of the encode queue that a whole run seldom meets."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from examples.encode_queue import ffmpeg
from examples.encode_queue.app import expect_left_over
from examples.encode_queue.attempts import attempts_of, stage_seconds
from examples.encode_queue.failure import StepError
from examples.encode_queue.ffmpeg import Media, check_ffmpeg, probe, run_ffmpeg
from examples.encode_queue.follow import Follower
from examples.encode_queue.media_server import count_downloads
from examples.encode_queue.presets import STANDARD
from examples.encode_queue.report import print_report, read_lines
from examples.encode_queue.screen import BarScreen, PlainScreen
from examples.encode_queue.segments import Film, plan
from examples.encode_queue.workers import Names, Workers
from pandora_db import EventKind, ExecutionFailed, Job, JobDb, JobEvent, JobType, Preset, Stage

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LOST = [
    (0, EventKind.INSERTED, Stage.QUEUED, 0),
    (2, EventKind.CLAIMED, Stage.DOWNLOADING, 1),
    (3, EventKind.FINISHED, Stage.DOWNLOADED, 1),
    (4, EventKind.CLAIMED, Stage.ENCODING, 1),
    (900, EventKind.RECOVERED, Stage.DOWNLOADED, 1),
    (901, EventKind.CLAIMED, Stage.ENCODING, 2),
    (905, EventKind.UPDATED, Stage.ENCODING, 2),
    (911, EventKind.FINISHED, Stage.ENCODED, 2),
]


def events(moves: list[tuple[int, EventKind, Stage, int]]) -> list[JobEvent]:
    return [
        JobEvent(1, seq, BEGIN + timedelta(seconds=at), kind, stage.value, attempt, f"h:{seq}:x")
        for seq, (at, kind, stage, attempt) in enumerate(moves, 1)
    ]


def test_the_work_of_a_lost_worker_is_not_counted_as_time_in_its_stage() -> None:
    assert stage_seconds(events(LOST)) == {
        Stage.QUEUED: 2.0,
        Stage.DOWNLOADING: 1.0,
        Stage.DOWNLOADED: 2.0,
        Stage.ENCODING: 10.0,
    }


def test_attempts_are_read_from_the_history() -> None:
    found = [(a.stage, a.number, a.owner, a.end) for a in attempts_of(events(LOST))]
    assert found == [
        (Stage.DOWNLOADING, 1, "h:2:x", "finished"),
        (Stage.ENCODING, 1, "h:4:x", "its lease ran out"),
        (Stage.ENCODING, 2, "h:6:x", "finished"),
    ]
    assert attempts_of(events(LOST[:4]))[-1].end == "at work"


def test_downloads_are_counted_by_the_lines_of_the_server(tmp_path: Path) -> None:
    journal = tmp_path / "demo.log"
    assert not count_downloads(journal)
    journal.write_text(
        "12:00 server: job 7 downloads a.mkv\n12:01 encoder 1: job 7: attempt 1\n"
        "12:02 server: job 7 downloads a.mkv\n12:02 server: job 8 downloads b.mkv\n"
    )
    assert count_downloads(journal) == {7: 2, 8: 1}


async def test_only_jobs_that_will_be_worked_on_are_waited_for(db: JobDb) -> None:
    waiting, paused, unowned, failed, ours = await db.insert_jobs(
        Job(author="mika") for _ in range(5)
    )
    await db.insert_job(Job(author="mika", job_type=JobType.TASK))
    await db.pause_job(paused)
    await db.update_stage(unowned, Stage.ENCODING)  # as libpndb does it, which has no leases
    await db.update_stage(failed, Stage.FAILED)
    await db.claim_job(ours, into=Stage.DOWNLOADING)
    follower = Follower(db, PlainScreen(io.StringIO()), Names())
    await expect_left_over(db, follower)
    assert sorted(follower.job_ids) == sorted([waiting, ours])


async def test_an_encoder_that_does_not_start_ends_the_run(tmp_path: Path) -> None:
    heard: list[str] = []
    workers = Workers(
        "nosuch://secret@host/db",
        tmp_path / "intro.mp4",
        number=1,
        quick=True,
        names=Names(),
        heard=lambda _, line: heard.append(line),
        lost=lambda _: None,
    )
    with pytest.raises(ExceptionGroup) as caught:
        await workers.run()
    (error,) = caught.value.exceptions
    assert isinstance(error, StepError)
    assert re.match(r"encoder 1 \(pid \d+\) ended with code 1: .*InvalidInput", str(error))


async def test_the_tables_cut_no_number_at_80_columns(db: JobDb) -> None:
    author, name = "a-long-name-of-somebody", "a-long-title-that-does-not-fit.mkv"
    job_id = await db.insert_job(
        Job(author=author, link="x", preset=Preset.PSEUDO_LOSSLESS, config={"title": name})
    )
    output = {"source_bytes": 123_456_789_012, "bytes": 98_765_432_109, "segments": []}
    for waiting, working, after in (
        (Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED),
        (Stage.DOWNLOADED, Stage.ENCODING, Stage.ENCODED),
        (Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED),
    ):
        (claim,) = await db.claim_jobs(waiting, into=working)
        await db.finish_job(claim, after, output=output)
    lines = await read_lines(db, await db.get_jobs_by_ids([job_id]), {})
    out = io.StringIO()
    print_report(lines, lines, Names(), Console(file=out, width=80))
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.count("123456.8 → 98765.4 uploaded") == 2
    assert re.search(r"(?: +\d+\.\d){4} 123456\.8 → ", text), text


REASON = "404 Not Found, /clips/7/a-film-that-its-owner-deleted-long-before-anybody-asked.mkv"


async def test_a_long_reason_ends_in_an_ellipsis_and_is_whole_below_the_table(db: JobDb) -> None:
    job_id = await db.insert_job(Job(author="mika", link="x", preset=Preset.STANDARD))
    (claim,) = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING)
    await db.fail_job(claim, REASON, final=True)
    (job,) = jobs = await db.get_jobs_by_ids([job_id])
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None)
    with BarScreen(console) as screen:
        screen.add(job)
        screen.stage(job_id, Stage.FAILED, None, "failed", REASON)
    shown = out.getvalue().replace("\r", "\n").splitlines()
    (live,) = {line.rstrip() for line in shown if "404" in line}
    assert live.endswith("% failed  404 Not Found, /clips/7…")

    out = io.StringIO()
    lines = await read_lines(db, jobs, {})
    print_report(lines, [], Names(), Console(file=out, width=80))
    text = out.getvalue()
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "".join(REASON.split()) in "".join(text.split())


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, [(0, 0.0, 0.0)]),
        (0.7, [(0, 0.0, 0.0)]),
        (4.02, [(0, n / 2, 0.5) for n in range(7)] + [(0, 3.5, 0.0)]),
        (7200.0, [(0, n * 30.0, 30.0) for n in range(239)] + [(0, 7170.0, 0.0)]),
    ],
)
def test_a_film_is_cut_into_segments(
    seconds: float, expected: list[tuple[int, float, float]]
) -> None:
    film = Film((Path("film"),), (Media(seconds, 64, 48, has_audio=True),), None)
    assert plan(film) == expected


async def encoded(folder: Path, *parts: Path) -> Path:
    """The parts, encoded as one film: segment by segment, then joined."""
    film = Film(parts, tuple([await probe(part) for part in parts]), None)
    cuts = plan(film)
    segments = [(folder / f"segment-{n}.mp4", cut[2]) for n, cut in enumerate(cuts)]
    for (path, _), cut in zip(segments, cuts, strict=True):
        await film.encode(cut, STANDARD, path)
    await film.join(segments, folder / "film.mp4")
    return folder / "film.mp4"


async def frames_of(path: Path) -> int:
    """How many pictures ffmpeg decodes."""
    listing = path.with_suffix(".txt")
    await run_ffmpeg("-i", str(path), "-map", "0:v", "-f", "framecrc", str(listing))
    return sum(not line.startswith("#") for line in listing.read_text().splitlines())


async def test_sound_that_outlasts_the_picture_does_no_harm(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mkv"
    picture = ("-f", "lavfi", "-i", "testsrc2=size=65x49:rate=25:duration=1")
    await run_ffmpeg(*picture, "-f", "lavfi", "-i", "sine=duration=4", str(clip))
    film = await encoded(tmp_path, clip)
    assert await frames_of(film) == 25
    media = await probe(film)
    assert (media.width, media.height, media.has_audio) == (64, 48, True)
    assert media.seconds == pytest.approx(4.0, abs=0.1)


async def test_a_mute_film_follows_the_intro(tmp_path: Path) -> None:
    intro, clip = tmp_path / "intro.mp4", tmp_path / "clip.mkv"
    await run_ffmpeg(
        *("-f", "lavfi", "-i", "smptebars=size=64x48:rate=30:duration=1"),
        *("-f", "lavfi", "-i", "sine=duration=1", str(intro)),
    )
    await run_ffmpeg("-f", "lavfi", "-i", "testsrc2=size=64x48:rate=30:duration=2", str(clip))
    film = await encoded(tmp_path, intro, clip)
    assert await frames_of(film) == 90
    media = await probe(film)
    assert media.has_audio
    assert media.seconds == pytest.approx(3.0, abs=0.1)


async def test_an_error_of_ffmpeg_is_the_end_of_its_stderr(tmp_path: Path) -> None:
    with pytest.raises(ExecutionFailed, match="No such file or directory"):
        await run_ffmpeg("-i", str(tmp_path / "none.mkv"), str(tmp_path / "out.mp4"))


async def test_without_any_ffmpeg_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(ffmpeg, "get_ffmpeg_exe", none)
    with pytest.raises(StepError, match="no ffmpeg was found: pip install imageio-ffmpeg"):
        await check_ffmpeg()


async def test_probe_reads_length_size_and_sound(tmp_path: Path) -> None:
    path = tmp_path / "silent.mkv"
    await run_ffmpeg("-f", "lavfi", "-i", "color=size=64x48:duration=1.5", str(path))
    media = await probe(path)
    assert (media.width, media.height, media.has_audio) == (64, 48, False)
    assert media.seconds == pytest.approx(1.5, abs=0.1)
