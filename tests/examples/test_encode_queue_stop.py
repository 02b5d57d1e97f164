"""The encode queue stopped, killed as a whole, and run twice at once."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.encode_queue import (
    ROOT,
    children_of,
    command,
    interrupt_at,
    run_queue,
    segments_begun,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


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
    # The other encoder, which may just be starting, takes what the first gave back and does so too.
    *before, last = (a for a in job["attempts"] if a["stage"] == "ENCODING")
    assert {attempt["end"] for attempt in before} == {"given back"}
    assert last["end"] == "finished"
    # Nor is any segment encoded again: an encoder that is asked to stop completes the one at hand.
    (begun,) = segments_begun(tmp_path).values()
    assert [segment for _, segment in begun] == [n + 1 for n in range(len(job["segments"]))]
    owners = {attempt["owner"] for attempt in (*before, last)}
    assert {by["owner"] for by in job["segments"]} <= owners
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
