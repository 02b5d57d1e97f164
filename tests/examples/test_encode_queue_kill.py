"""The main job of the README: an encoder is killed, and its job goes on from its checkpoint."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pandora_db import EventKind, JobDb, JobEvent, Stage
from tests.support.encode_queue import run_queue, segments_begun

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


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


def test_runs_on_postgres_with_the_kill(tmp_path: Path, postgres_dsn: str, material: Path) -> None:
    (tmp_path / "clips").symlink_to(material / "clips")
    log = run_queue(tmp_path, "--db", postgres_dsn)
    assert Counter(job["stage"] for job in log["jobs"]) == {"UPLOADED": 7, "FAILED": 1}
    check_killed_and_resumed(log, tmp_path, postgres_dsn)
    assert not (tmp_path / "pandora.db").exists()
