"""The encode queue as its users run it: to the end, again, interrupted, and with broken input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def command(folder: Path, *arguments: str) -> list[str]:
    program = [sys.executable, "-m", "examples.encode_queue", "--quick", "--folder", str(folder)]
    return [*program, *arguments]


def run_queue(folder: Path, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Run the queue to its end; its JSON."""
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
    return document


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


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("queue")
    first = run_queue(folder)
    (folder / "first.json").write_text(json.dumps(first))
    return folder


def test_first_run_takes_every_job_to_its_end(material: Path) -> None:
    log = json.loads((material / "first.json").read_text())
    assert (len(log["jobs"]), log["earlier"], log["left"]) == (8, [], 0)
    failed = [job for job in log["jobs"] if job["stage"] == "FAILED"]
    assert [job["title"] for job in failed] == ["deleted-by-its-owner.mkv"]
    assert "404" in failed[0]["error"]
    done = [job for job in log["jobs"] if job["stage"] == "UPLOADED"]
    assert len(done) == 7
    for job in done:
        assert Path(job["file"]).stat().st_size == job["bytes_after"]
        assert {"QUEUED", "DOWNLOADING", "ENCODING", "UPLOADING"} <= set(job["seconds"])
    assert {job["preset"] for job in log["jobs"]} == {
        *("pseudo-lossless", "standard", "gpu", "concat", "concat + subs")
    }
    assert not any((material / "jobs").glob("*/encoded*"))


def test_concat_adds_the_intro_and_subtitles(material: Path) -> None:
    from imageio_ffmpeg import get_ffmpeg_exe

    log = json.loads((material / "first.json").read_text())
    job = next(job for job in log["jobs"] if job["preset"] == "concat + subs" and job["file"])
    seen = subprocess.run(
        [get_ffmpeg_exe(), "-hide_banner", "-i", job["file"]],
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert "Duration: 00:00:03.0" in seen
    assert "Subtitle: mov_text" in seen


def test_second_run_shows_the_first(material: Path) -> None:
    first = json.loads((material / "first.json").read_text())
    second = run_queue(material, "--clips", "2")
    assert len(second["jobs"]) == 2
    earlier = {job["job_id"] for job in second["earlier"]}
    assert earlier == {job["job_id"] for job in first["jobs"]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_is_finished_by_the_next(tmp_path: Path, number: signal.Signals) -> None:
    out = interrupt_at(tmp_path, "Encoding", number, "--limit", "20")
    if number != signal.SIGKILL:
        assert "Stopped. Left: " in out
        assert children_of(tmp_path) == []
    log = run_queue(tmp_path)
    assert log["left"] == 0
    everything = log["jobs"] + log["earlier"]
    assert {job["stage"] for job in everything} <= {"UPLOADED", "FAILED"}
    assert any(job["stage"] == "UPLOADED" for job in log["jobs"])


def test_a_kept_source_is_not_downloaded_again(tmp_path: Path) -> None:
    first = interrupt_at(tmp_path, "Encoding", signal.SIGINT, "--clips", "1")
    assert "Left: 1 Encoding." in first
    again = subprocess.run(
        command(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert "was Encoding: goes on from Downloaded" in again
    assert "Downloading" not in again
    assert "uploaded" in again


def test_files_of_the_user_and_a_broken_one(tmp_path: Path, material: Path) -> None:
    video = next((material / "clips").rglob("test-card*"))
    broken = tmp_path / "not a video.mkv"
    broken.write_text("just words")
    log = run_queue(tmp_path / "demo", str(video), str(broken), "http://127.0.0.1:9/none.mkv")
    stages = {job["title"]: (job["stage"], job["error"]) for job in log["jobs"]}
    assert stages[video.name] == ("UPLOADED", None)
    assert stages["not a video.mkv"][0] == "FAILED"
    assert "no video in it" in stages["not a video.mkv"][1]
    assert stages["none.mkv"][0] == "FAILED"


def test_a_source_that_is_gone_fails_with_that_reason(tmp_path: Path, material: Path) -> None:
    video = tmp_path / "mine.mkv"
    video.write_bytes(next((material / "clips").rglob("mandelbrot*")).read_bytes())
    folder = tmp_path / "demo"
    interrupt_at(folder, "Downloading", signal.SIGKILL, str(video), str(video), "--workers", "1")
    video.unlink()
    for source in (folder / "jobs").glob("*/source*"):
        source.unlink()
    log = run_queue(folder)
    failed = [job for job in log["jobs"] + log["earlier"] if job["stage"] == "FAILED"]
    assert failed
    assert all("gone" in job["error"] or "404" in job["error"] for job in failed)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with subprocess.Popen(command(tmp_path), cwd=ROOT, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert "making" in first.stdout.readline()
        second = subprocess.run(
            command(tmp_path), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        first.send_signal(signal.SIGINT)
        first.stdout.read()
    assert second.returncode == 1
    assert second.stderr.startswith("error: another encode queue is at work here")


def test_runs_on_postgres(tmp_path: Path, postgres_dsn: str, material: Path) -> None:
    (tmp_path / "clips").symlink_to(material / "clips")
    log = run_queue(tmp_path, "--db", postgres_dsn, "--clips", "3")
    assert [job["stage"] for job in log["jobs"]] == ["UPLOADED"] * 3


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
def test_on_a_terminal_it_draws_bars_and_the_table(tmp_path: Path, material: Path) -> None:
    import pty

    (tmp_path / "clips").symlink_to(material / "clips")
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "150", "LINES": "40"}
    with subprocess.Popen(
        command(tmp_path, "--clips", "2"), cwd=ROOT, stdout=slave, stderr=slave, env=environment
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
    text = seen.decode()
    assert "━" in text
    assert "This run" in text
    assert "uploaded" in text
