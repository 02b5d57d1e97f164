"""The encode queue as its users run it: with the kill, again, interrupted, with broken input."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest

from pandora_db import EventKind, JobDb, JobEvent, Stage

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
_SEGMENT = re.compile(r"job (\d+): attempt (\d+), segment (\d+) of (\d+)")


def command(folder: Path, *arguments: str) -> list[str]:
    program = [sys.executable, "-m", "examples.encode_queue", "--quick", "--folder", str(folder)]
    return [*program, *arguments]


def run_queue(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run the queue to its end; its JSON, and what it said meanwhile as "said"."""
    done = subprocess.run(
        command(folder, "--json", *arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document | {"said": done.stderr}


def interrupt_at(folder: Path, words: str, number: signal.Signals, *arguments: str) -> str:
    """Start the queue, send the signal once a line holds `words`; all that it printed."""
    with subprocess.Popen(
        command(folder, *arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if words in line:
                process.send_signal(number)
                break
        lines += process.stdout.readlines()
        out = "".join(lines)
        assert process.wait(30) == (128 + number if number != signal.SIGKILL else -number), out
    return out


def children_of(folder: Path) -> list[int]:
    """The processes that work on a file below `folder`."""
    found: list[int] = []
    for process in psutil.process_iter():
        try:
            if any(str(folder) in word for word in process.cmdline()):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def segments_begun(folder: Path) -> dict[int, list[tuple[int, int]]]:
    """What the encoders wrote down before each segment: (attempt, segment) by job, in order."""
    begun: dict[int, list[tuple[int, int]]] = {}
    for job_id, attempt, segment, _ in _SEGMENT.findall((folder / "demo.log").read_text()):
        begun.setdefault(int(job_id), []).append((int(attempt), int(segment)))
    return begun


def history(url: str, job_id: int) -> list[JobEvent]:
    async def read() -> list[JobEvent]:
        async with JobDb.open(url, sweep=None) as db:
            return await db.history(job_id)

    return asyncio.run(read())


def check_killed_and_resumed(log: dict[str, Any], folder: Path, url: str) -> dict[str, Any]:
    """One encoder was killed, and its job went on from its checkpoint; that job."""
    lost = [
        job
        for job in log["jobs"]
        if any(attempt["end"] == "its lease ran out" for attempt in job["attempts"])
    ]
    assert len(lost) == 1, log["said"]
    (job,) = lost
    job_id = int(job["job_id"])
    assert job["stage"] == "UPLOADED"

    first, second = (a for a in job["attempts"] if a["stage"] == "ENCODING")
    assert [first["number"], first["end"]] == [1, "its lease ran out"]
    assert [second["number"], second["end"]] == [2, "finished"]
    assert first["owner"] != second["owner"]
    kinds = [
        (event.kind, event.attempt)
        for event in history(url, job_id)
        if Stage.ENCODING in (event.stage, event.previous)
    ]
    assert kinds == [
        (EventKind.CLAIMED, 1),
        (EventKind.RECOVERED, 1),
        (EventKind.CLAIMED, 2),
        (EventKind.FINISHED, 2),
    ]

    # What the first attempt completed the second did not encode again.
    makers = [{"attempt": a["number"], "owner": a["owner"]} for a in (first, second)]
    total, kept = len(job["segments"]), job["segments"].count(makers[0])
    assert 1 <= kept < total - 1
    assert job["segments"] == [makers[0]] * kept + [makers[1]] * (total - kept)
    assert segments_begun(folder)[job_id] == [
        *((1, number) for number in range(1, kept + 2)),
        *((2, number) for number in range(kept + 1, total + 1)),
    ]
    assert f"was killed in segment {kept + 1} of {total} of job {job_id}" in log["said"]
    assert f"goes on at segment {kept + 1} of {total}; {kept} are kept" in log["said"]
    assert job["downloads"] == 1
    return job


def frames_of(file: str) -> int:
    from imageio_ffmpeg import get_ffmpeg_exe

    seen = subprocess.run(
        [get_ffmpeg_exe(), "-hide_banner", "-i", file, "-map", "0:v", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    return int(re.findall(r"frame=\s*(\d+)", seen)[-1])


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("queue")
    first = run_queue(folder)
    (folder / "first.json").write_text(json.dumps(first))
    return folder


@pytest.fixture
def first(material: Path) -> dict[str, Any]:
    """What the first run answered."""
    document: dict[str, Any] = json.loads((material / "first.json").read_text())
    return document


def test_first_run_takes_every_job_to_its_end(material: Path, first: dict[str, Any]) -> None:
    assert (len(first["jobs"]), first["earlier"], first["left"]) == (8, [], 0)
    failed = [job for job in first["jobs"] if job["stage"] == "FAILED"]
    assert [job["title"] for job in failed] == ["deleted-by-its-owner.mkv"]
    assert "404" in failed[0]["error"]
    done = [job for job in first["jobs"] if job["stage"] == "UPLOADED"]
    assert len(done) == 7
    for job in done:
        assert Path(job["file"]).stat().st_size == job["bytes_after"]
        assert {"QUEUED", "DOWNLOADING", "ENCODING", "UPLOADING"} <= set(job["seconds"])
        seconds = 5.5 if "concat" in job["preset"] else 4.0  # the intro has 1.5
        assert frames_of(job["file"]) == seconds * 30, job
    assert {job["preset"] for job in first["jobs"]} == {
        *("pseudo-lossless", "standard", "gpu", "concat", "concat + subs")
    }
    assert not list((material / "jobs").glob("*/*.mp4"))
    assert children_of(material) == []


def test_a_killed_encoder_costs_an_attempt_and_no_segment(
    material: Path, first: dict[str, Any]
) -> None:
    killed = check_killed_and_resumed(first, material, str(material / "pandora.db"))
    begun = segments_begun(material)
    for job in first["jobs"]:
        if job is not killed and job["stage"] == "UPLOADED":
            assert begun[int(job["job_id"])] == [(1, n + 1) for n in range(len(job["segments"]))]
            assert job["downloads"] == 1


def test_with_one_encoder_its_successor_goes_on(tmp_path: Path, material: Path) -> None:
    (tmp_path / "clips").symlink_to(material / "clips")
    log = run_queue(tmp_path, "--workers", "1", "--clips", "2", "--kill")
    check_killed_and_resumed(log, tmp_path, str(tmp_path / "pandora.db"))


def test_concat_adds_the_intro_and_subtitles(first: dict[str, Any]) -> None:
    from imageio_ffmpeg import get_ffmpeg_exe

    job = next(job for job in first["jobs"] if job["preset"] == "concat + subs" and job["file"])
    seen = subprocess.run(
        [get_ffmpeg_exe(), "-hide_banner", "-i", job["file"]],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert "Duration: 00:00:05.5" in seen
    assert "Audio: aac" in seen
    assert "Subtitle: mov_text" in seen


def test_second_run_shows_the_first(material: Path, first: dict[str, Any]) -> None:
    second = run_queue(material, "--clips", "2", "--no-kill")
    assert len(second["jobs"]) == 2
    assert "kill" not in second["said"]
    earlier = {job["job_id"] for job in second["earlier"]}
    assert earlier == {job["job_id"] for job in first["jobs"]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_is_finished_by_the_next(
    tmp_path: Path, material: Path, number: signal.Signals
) -> None:
    (tmp_path / "clips").symlink_to(material / "clips")
    out = interrupt_at(tmp_path, "encoding by", number, "--limit", "20")
    if number != signal.SIGKILL:
        assert "Stopped. Left: " in out
    else:  # the encoders see that they are alone
        deadline = time.monotonic() + 20
        while children_of(tmp_path) and time.monotonic() < deadline:
            time.sleep(0.05)
    assert children_of(tmp_path) == []
    log = run_queue(tmp_path)
    assert log["left"] == 0
    everything = log["jobs"] + log["earlier"]
    assert {job["stage"] for job in everything} <= {"UPLOADED", "FAILED"}
    assert any(job["stage"] == "UPLOADED" for job in log["jobs"])


def test_a_kept_source_is_not_downloaded_again(tmp_path: Path, material: Path) -> None:
    (tmp_path / "clips").symlink_to(material / "clips")
    out = interrupt_at(tmp_path, "encoding by", signal.SIGINT, "--clips", "1")
    assert "Left: 1 Downloaded." in out
    log = run_queue(tmp_path)
    (job,) = log["jobs"]
    assert (job["stage"], job["downloads"]) == ("UPLOADED", 1)
    given_back, finished = (a for a in job["attempts"] if a["stage"] == "ENCODING")
    assert (given_back["end"], finished["end"]) == ("given back", "finished")
    # Nor is any segment encoded again: an encoder that is asked to stop completes the one at hand.
    (begun,) = segments_begun(tmp_path).values()
    assert [segment for _, segment in begun] == [n + 1 for n in range(len(job["segments"]))]
    assert {by["owner"] for by in job["segments"]} <= {given_back["owner"], finished["owner"]}
    assert "downloading" not in log["said"]


def test_two_runs_at_once_share_the_work(tmp_path: Path, material: Path) -> None:
    (tmp_path / "clips").symlink_to(material / "clips")
    both = [
        subprocess.Popen(
            command(tmp_path, "--json", "--clips", "4"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    jobs: list[dict[str, Any]] = []
    for process in both:
        out, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
        jobs += json.loads(out)["jobs"]
    # The one that came later may have taken jobs of the other for left over: it waits for them too.
    by_id = {job["job_id"]: job for job in jobs}
    assert len(by_id) == 8
    begun = segments_begun(tmp_path)
    for job_id, job in by_id.items():
        assert job["stage"] == "UPLOADED"
        assert job["downloads"] == 1
        times = Counter(segment for _, segment in begun[int(job_id)])
        again = [segment for segment, number in times.items() if number > 1]
        lost = [a for a in job["attempts"] if a["end"] == "its lease ran out"]
        assert len(again) == len(lost), job  # only the one that a kill cut off


def test_files_of_the_user_and_a_broken_one(tmp_path: Path, material: Path) -> None:
    video = next((material / "clips").rglob("test-card*"))
    broken = tmp_path / "not a video.mkv"
    broken.write_text("just words")
    log = run_queue(tmp_path / "demo", str(video), str(broken), "http://127.0.0.1:9/none.mkv")
    jobs = {job["title"]: job for job in log["jobs"]}
    assert (jobs[video.name]["stage"], jobs[video.name]["error"]) == ("UPLOADED", None)
    assert jobs["not a video.mkv"]["stage"] == "FAILED"
    assert "no video in it" in jobs["not a video.mkv"]["error"]
    assert jobs["none.mkv"]["stage"] == "FAILED"
    assert [a["end"] for a in jobs["none.mkv"]["attempts"]] == ["failed"] * 3
    assert "kill" not in log["said"]


def test_a_source_that_is_gone_fails_with_that_reason(tmp_path: Path, material: Path) -> None:
    video = tmp_path / "mine.mkv"
    video.write_bytes(next((material / "clips").rglob("mandelbrot*")).read_bytes())
    folder = tmp_path / "demo"
    interrupt_at(folder, "downloading by", signal.SIGKILL, str(video), str(video), "--workers", "1")
    video.unlink()
    for source in (folder / "jobs").glob("*/source*"):
        source.unlink()
    log = run_queue(folder)
    failed = [job for job in log["jobs"] + log["earlier"] if job["stage"] == "FAILED"]
    assert failed
    assert all("gone" in job["error"] or "404" in job["error"] for job in failed)


def test_runs_on_postgres_with_the_kill(tmp_path: Path, postgres_dsn: str, material: Path) -> None:
    (tmp_path / "clips").symlink_to(material / "clips")
    log = run_queue(tmp_path, "--db", postgres_dsn)
    assert Counter(job["stage"] for job in log["jobs"]) == {"UPLOADED": 7, "FAILED": 1}
    check_killed_and_resumed(log, tmp_path, postgres_dsn)
    assert not (tmp_path / "pandora.db").exists()


def test_without_a_working_ffmpeg_it_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path / "demo"),
        cwd=ROOT,
        env={**os.environ, "IMAGEIO_FFMPEG_EXE": str(tmp_path / "none")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: ffmpeg does not run here: none cannot be started")
    assert "pip install imageio-ffmpeg" in done.stderr
    assert not (tmp_path / "demo").exists()


def test_help_lists_the_options(tmp_path: Path) -> None:
    done = subprocess.run(
        command(tmp_path / "demo", "--help"), cwd=ROOT, capture_output=True, text=True, check=True
    )
    for option in ("FILE_OR_URL", "--folder", "--db", "--workers", "--kill", "--no-kill", "--json"):
        assert option in done.stdout
    assert not (tmp_path / "demo").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_on_a_terminal_of_80_columns_nothing_is_cut(tmp_path: Path, material: Path) -> None:
    import pty

    (tmp_path / "clips").symlink_to(material / "clips")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
    arguments = ("--clips", "2", "--kill")
    with subprocess.Popen(
        command(tmp_path, *arguments), cwd=ROOT, stdout=slave, stderr=slave, env=environment
    ) as process:
        os.close(slave)
        seen = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                chunk = os.read(master, 65_536)
            except OSError:
                break
            if not chunk:
                break
            seen += chunk
        os.close(master)
        assert process.wait(10) == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", seen.decode())
    lines = re.split(r"[\r\n]+", text)
    assert max(len(line) for line in lines) <= 80
    assert any(re.fullmatch(r" +1 kofi +gpu +━+ 100% uploaded +", line) for line in lines)
    number = r"\d+\.\d"
    row = rf" +2 noor +mandelbrot.mkv concat +(?:{number} +){{4}}{number}\d? → {number}\d? uploaded"
    table = lines[next(n for n, line in enumerate(lines) if line.startswith("This run")) :]
    assert any(re.fullmatch(row, line) for line in table), table
    assert any("killed; its lease ran out" in line for line in table)
    assert any(re.match(r" +2 encoder \d+ \(pid \d+\) .* finished", line) for line in table)
