"""Running the encode queue as its users do, and reading what it wrote down."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
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
