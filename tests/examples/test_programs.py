"""Each small example, run as its users run it, on both dialects where it takes a URL."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.file_copy import FileCopy
from pandora_db.runtime import FileCopyOutput
from pandora_db.testing import run_job

ROOT = Path(__file__).parents[2]
RISK = re.compile(r"has a second writer, and SQLite [\d.]+ can damage")
"""What an example of several processes tells with a SQLite that is not made for them."""


def start_example(
    name: str, *arguments: str, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """`python -m examples.<name>` in `folder`, and what became of it."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", f"examples.{name}", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONUTF8": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def run_example(name: str, *arguments: str) -> str:
    """What `python -m examples.<name>` prints; fails with its stderr when it ends badly."""
    done = start_example(name, *arguments)
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if not RISK.search(line)]
    assert told == []
    return done.stdout


def check_quickstart(out: str) -> None:
    assert "is queued, 1 active" in out
    assert "mika's job is UPLOADED, completed" in out
    assert "archived" in out


def check_queue_check(out: str) -> None:
    lines = out.splitlines()
    assert sum("accepted as job" in line for line in lines) == 5
    assert sum("the queue is full" in line for line in lines) == 3
    positions = sorted(line.rsplit(" ", 4)[1] for line in lines if "accepted" in line)
    assert len(positions) == 5
    assert lines[-1] == "active: 5"


def check_user_history(out: str) -> None:
    lines = out.splitlines()
    assert lines[0] == "Your last 3 jobs:"
    assert [line.split(" - ")[1:] for line in lines[1:4]] == [
        ["CONCAT_SOME_SUBS", "QUEUED"],
        ["PSEUDO_LOSSLESS", "ENCODING"],
        ["STANDARD", "UPLOADED"],
    ]
    assert lines[3].startswith("✓")
    assert lines[4] == "Your last 1 jobs:"


def check_restart(out: str) -> None:
    lines = out.splitlines()
    assert lines[:3] == ["attempt 1: segment 1", "attempt 1: segment 2", "killed"]
    assert lines[3] == "taken back: (1,); at work without a lease: (2,)"
    assert lines[4:7] == [f"attempt 2: segment {number}" for number in (3, 4, 5)]
    assert lines[7] == "failed: (2,)"
    assert [line.split()[0] for line in lines[8:]] == [
        "inserted", "stage", "claimed", "recovered", "claimed", "finished",
    ]  # fmt: skip


def check_worker_loop(out: str) -> None:
    ends = [line.partition(": ")[2] for line in out.splitlines()]
    dead = "FAILED FileNotFoundError: 404 from https://example.com/dead.mkv"
    assert ends == ["UPLOADED", "UPLOADED", dead, "UPLOADED"]


def check_pipeline(out: str) -> None:
    ends = [line.partition(": ")[2].partition(" ") for line in out.splitlines()]
    assert [end[0] for end in ends] == ["UPLOADED", "UPLOADED", "FAILED", "UPLOADED"]
    assert ends[2][2] == "404 from https://example.com/dead.mkv"
    assert all("https://videos.example/" in ends[n][2] for n in (0, 1, 3))


def check_file_copy(out: str) -> None:
    assert out.splitlines() == ["paused: paused", "copied 200 files, 1400 bytes"]


def test_the_copying_job_takes_at_most_30_lines() -> None:
    source = (ROOT / "examples" / "file_copy.py").read_text(encoding="utf-8")
    job = source[source.index("@job(") : source.index("async def main")]
    assert len(job.strip().splitlines()) <= 30


async def test_the_copying_job_counts_what_it_has_copied(tmp_path: Path) -> None:
    source = tmp_path / "one.txt"
    source.write_text("content")
    (tmp_path / "copies").mkdir()
    sources = [tmp_path / "missing.txt", source, tmp_path / "gone.txt"]
    output = await run_job(FileCopy(sources=sources, destination=tmp_path / "copies"))
    assert output == FileCopyOutput(copied_count=1, total_bytes=7)
    assert [path.name for path in (tmp_path / "copies").iterdir()] == ["one.txt"]


def check_indexer(out: str) -> None:
    found = "total_files=3 total_dirs=4 total_bytes=300"
    told, found_all = out.splitlines()
    assert told == "2 of the files are duplicates"
    assert found_all == f"<JobHandle indexer 1> is completed: {found}"


CHECKS = {
    "quickstart": check_quickstart,
    "queue_check": check_queue_check,
    "user_history": check_user_history,
    "restart_after_crash": check_restart,
    "worker_loop": check_worker_loop,
    "pipeline": check_pipeline,
    "file_copy": check_file_copy,
    "indexer": check_indexer,
}


@pytest.mark.parametrize("name", CHECKS)
def test_runs_without_arguments(name: str) -> None:
    CHECKS[name](run_example(name))


@pytest.mark.parametrize("name", CHECKS)
def test_runs_on_a_given_database(name: str, empty_url: str) -> None:
    CHECKS[name](run_example(name, empty_url))


def test_own_transaction() -> None:
    out = run_example("own_transaction").splitlines()
    job_id = int(out[0].rpartition(" ")[2])
    assert out[1].startswith("refused: CHECK constraint failed")
    assert out[2] == f"orders: [('mika', {job_id})]"
    assert out[3] == f"jobs:   [('mika', {job_id})]"


@pytest.mark.parametrize("name", [*CHECKS, "own_transaction"])
def test_an_option_is_no_database(name: str, tmp_path: Path) -> None:
    for arguments, code, out, told in (
        (("--help",), 0, f"python -m examples.{name}", ""),
        (("--verbose",), 2, "", "error: --verbose is not understood"),
        (("a.db", "b.db"), 2, "", "error: b.db is not understood"),
    ):
        done = start_example(name, *arguments, folder=tmp_path)
        assert done.returncode == code, done.stderr
        assert out in done.stdout
        assert done.stderr.startswith(told)
    assert list(tmp_path.iterdir()) == []


def test_own_transaction_says_that_it_takes_no_url(tmp_path: Path) -> None:
    done = start_example("own_transaction", "shop.db", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: it takes no URL")
    assert list(tmp_path.iterdir()) == []


def test_every_example_is_tested() -> None:
    programs = {path.stem for path in (ROOT / "examples").glob("*.py")} - {"__init__"}
    assert programs == {*CHECKS, "own_transaction"}
