"""The encode queue as its users run it: to the end, again, on a terminal, with broken input."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pandora_db.drivers.sqlite.health import wal_reset_race
from tests.support.encode_queue import ROOT, children_of, command, run_queue

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


def frames_of(file: str) -> int:
    from imageio_ffmpeg import get_ffmpeg_exe

    seen = subprocess.run(
        [get_ffmpeg_exe(), "-hide_banner", "-i", file, "-map", "0:v", "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    return int(re.findall(r"frame=\s*(\d+)", seen)[-1])


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
    told = f"several processes on SQLite {sqlite3.sqlite_version}: for a demo only" in first["said"]
    assert told is wal_reset_race(sqlite3.sqlite_version_info)


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
