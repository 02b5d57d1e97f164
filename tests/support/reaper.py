"""Waits until the test session is over, however it ends, then stops its PostgreSQL server.

Run as `python reaper.py <data folder>`; the session holds the other end of its standard input.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path


def _postmaster(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None


def main(data: Path) -> None:
    """Return once the session is gone, its server stopped and its folder deleted."""
    sys.stdin.buffer.read()
    pid = _postmaster(data)
    if pid is not None:
        try:
            os.kill(pid, signal.SIGQUIT)
        except ProcessLookupError:
            pid = None
    deadline = time.monotonic() + 10
    while pid is not None and _postmaster(data) == pid and time.monotonic() < deadline:
        time.sleep(0.05)
    shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
