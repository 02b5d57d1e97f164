"""Programs run in a group of their own, which ends with whoever awaits them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pandora_db import ExecutionFailed, InvalidInput
from pandora_db.runtime import run_process
from tests.support.waiting import wait_until

PYTHON = sys.executable
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(os.getpid(), child.pid, flush=True)
time.sleep({lasts})
"""
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


async def run_python(code: str, **options: object) -> object:
    return await run_process(PYTHON, "-c", code, **options)  # type: ignore[arg-type]


def children() -> set[int]:
    """Of this process; the server of the session may be among them."""
    return {child.pid for child in psutil.Process(os.getpid()).children()}


def gone(pids: list[int]) -> Callable[[], bool]:
    """Whether none of them is left; a child that init has yet to reap is over as well."""

    def probe() -> bool:
        for pid in pids:
            try:
                if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                    return False
            except psutil.NoSuchProcess:
                continue
        return True

    return probe


async def test_lines_arrive_while_it_runs() -> None:
    lines: list[str] = []
    errors: list[str] = []

    async def heard(line: str) -> None:
        await asyncio.sleep(0)
        lines.append(line)

    code = "import sys; print('a\\rb\\r\\n\\nc'); print('d', file=sys.stderr); print('e', end='')"
    result = await run_process(PYTHON, "-c", code, on_line=heard, on_error_line=errors.append)

    assert (result.code, lines, errors) == (0, ["a", "b", "c", "e"], ["d"])
    assert sorted(result.tail) == ["a", "b", "c", "d", "e"]


async def test_a_line_without_end_comes_in_pieces() -> None:
    sizes: list[int] = []
    await run_process(
        PYTHON, "-c", "print('x' * 300_000)", on_line=lambda line: sizes.append(len(line))
    )
    assert sum(sizes) == 300_000
    assert max(sizes) <= 65_536 * 2


async def test_a_bad_end_tells_code_and_last_words() -> None:
    with pytest.raises(ExecutionFailed, match="ended with code 3:\nno such codec") as failed:
        await run_python("import sys; sys.exit(print('no such codec', file=sys.stderr) or 3)")
    assert failed.value.code == 3
    result = await run_process(PYTHON, "-c", "raise SystemExit(3)", check=False)
    assert result.code == 3


async def test_what_cannot_be_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(ExecutionFailed, match="cannot be started"):
        await run_process(tmp_path / "nothing")
    with pytest.raises(InvalidInput):
        await run_process("a\0b")
    with pytest.raises(InvalidInput):
        await run_process(PYTHON, 5)  # type: ignore[arg-type]


async def test_time_out_ends_the_whole_group() -> None:
    pids: list[int] = []
    with pytest.raises(ExecutionFailed, match=r"longer than 1 s"):
        await run_python(
            FAMILY.format(lasts=60),
            timeout=1.0,
            on_line=lambda line: pids.extend(map(int, line.split())),
        )
    assert len(pids) == 2
    await wait_until(gone(pids))


@pytest.mark.parametrize("deaf", [False, True])
async def test_cancellation_kills_the_group_and_leaves_no_zombie(deaf: bool) -> None:
    pids: list[int] = []
    task = asyncio.create_task(
        run_python(
            (DEAF if deaf else "") + FAMILY.format(lasts=60),
            grace=0.3,
            on_line=lambda line: pids.extend(map(int, line.split())),
        )
    )
    await wait_until(lambda: len(pids) == 2)
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()  # once more, while it is being ended

    with pytest.raises(asyncio.CancelledError):
        await task
    assert not psutil.pid_exists(pids[0])
    await wait_until(gone(pids))


async def test_cancelled_at_any_moment_it_leaves_nothing() -> None:
    before = children()
    for delay in (0, 0, 0.001, 0.005, 0.01, 0.02, 0.05):
        task = asyncio.create_task(run_python("import time; time.sleep(60)", grace=0.1))
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == before


async def test_children_left_behind_are_ended_and_keep_nobody_waiting() -> None:
    pids: list[int] = []
    began = time.monotonic()
    await run_python(
        FAMILY.format(lasts=0), on_line=lambda line: pids.extend(map(int, line.split()))
    )
    assert time.monotonic() - began < 10
    await wait_until(gone(pids))


async def test_a_callback_that_raises_ends_the_program() -> None:
    def heard(line: str) -> None:
        raise ZeroDivisionError(line)

    before = children()
    with pytest.raises(ZeroDivisionError):
        await run_python(FAMILY.format(lasts=60), on_line=heard)
    assert children() == before
