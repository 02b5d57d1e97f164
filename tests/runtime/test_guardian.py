"""Programs end with the process that runs them, also when that is killed with SIGKILL."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from pandora_db import ExecutionFailed
from pandora_db.runtime import guardian, run_process
from pandora_db.runtime.guardian import Guardian
from tests.runtime.test_process import gone
from tests.support.waiting import wait_until

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups")

# A worker whose program has a child, which is deaf to SIGTERM; both say who they are.
WORKER = """
import asyncio, os, signal, sys
from pandora_db.runtime import run_process, guardian

FAMILY = '''
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
'''

async def main():
    await run_process("true")  # the guardian has let one group go
    await asyncio.gather(*(
        run_process(sys.executable, "-c", FAMILY, on_line=lambda line: print(line, flush=True))
        for _ in range(2)
    ))

asyncio.run(main())
"""


MARK = f"{os.getpid()}-{time.time_ns()}"
"""In the environment of what these tests start: other programs have guardians too."""


@pytest.fixture(autouse=True)
def _marked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARDIAN_TEST", MARK)


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=-1, text=True)


def guardians() -> set[int]:
    """The shells that guard, of the processes that were started here."""
    found: set[int] = set()
    for process in psutil.process_iter(["cmdline"]):
        if any("groups=' '" in part for part in process.info["cmdline"] or ()):
            with suppress(psutil.Error):
                if process.environ().get("GUARDIAN_TEST") == MARK:
                    found.add(process.pid)
    return found


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_programs_end_when_their_worker_is_killed(how: signal.Signals) -> None:
    before = guardians()
    with start(WORKER) as worker:
        assert worker.stdout is not None
        lines = [await asyncio.to_thread(worker.stdout.readline) for _ in range(2)]
        pids = [int(pid) for line in lines for pid in line.split()]
        assert len(pids) == 4
        assert not gone(pids)()
        assert len(guardians() - before) == 1, "one for all programs of a process"
        os.kill(worker.pid, how)
        worker.wait()
        await wait_until(gone(pids), timeout=5)
        await wait_until(lambda: not guardians() - before, timeout=5)


KILLED_BEFORE = """
import asyncio, os, signal, sys
from pandora_db.runtime import guardian, run_process

plain = guardian.Guardian.add

def add(self, *groups):
    if any(isinstance(group, int) for group in groups):
        os.kill(os.getpid(), signal.SIGKILL)
    plain(self, *groups)

guardian.Guardian.add = add
asyncio.run(run_process("sleep", sys.argv[1]))
"""

KILLED_BY_ITS_PROGRAM = """
import asyncio, sys
from pandora_db.runtime import run_process
asyncio.run(run_process("sh", "-c", 'kill -s KILL "$PPID"; exec sleep "$1"', "sh", sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
@pytest.mark.parametrize("code", [KILLED_BEFORE, KILLED_BY_ITS_PROGRAM])
async def test_a_program_whose_group_the_guardian_does_not_know_yet_ends(code: str) -> None:
    """The worker is killed between the start of the program and the word of its group."""
    before = guardians()
    seconds = f"600.{time.time_ns()}"  # nobody else sleeps this long
    with start(code, seconds) as worker:
        assert worker.wait() == -signal.SIGKILL

    def begun() -> bool:
        return any(
            seconds in (process.info["cmdline"] or ())
            for process in psutil.process_iter(["cmdline"])
        )

    await wait_until(lambda: guardians() <= before, timeout=5)  # it has done what it does
    await wait_until(lambda: not begun(), timeout=5)


async def test_a_guardian_that_was_killed_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = Guardian()
    monkeypatch.setattr("pandora_db.runtime.process_group.GUARDIAN", mine)
    before = guardians()
    sleeping = asyncio.ensure_future(run_process("sleep", "600"))
    await wait_until(lambda: guardians() - before)
    (first,) = guardians() - before
    await wait_until(lambda: any(group.isdigit() for group in mine._groups))
    (group,) = map(int, mine._groups)
    os.kill(first, signal.SIGKILL)
    await wait_until(lambda: first not in guardians())

    await run_process("true")
    (second,) = guardians() - before
    assert second != first
    mine.forget()  # as if we were over: the pipe ends
    await wait_until(gone([group]), timeout=5)
    with pytest.raises(ExecutionFailed, match="ended by signal 9"):
        await asyncio.wait_for(sleeping, 5)


async def test_a_guardian_that_was_stopped_is_replaced_before_anybody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mine = Guardian()
    monkeypatch.setattr("pandora_db.runtime.process_group.GUARDIAN", mine)
    before = guardians()
    sleeping = asyncio.ensure_future(run_process("sleep", "600"))
    await wait_until(lambda: any(group.isdigit() for group in mine._groups))
    (group,) = [int(known) for known in mine._groups if known.isdigit()]
    (first,) = guardians() - before
    os.kill(first, signal.SIGSTOP)

    def fill() -> None:
        for number in range(20_000):
            mine.add(f"pipe:{number}")
            mine.remove(f"pipe:{number}")

    filling = asyncio.ensure_future(asyncio.to_thread(fill))
    done, _ = await asyncio.wait([filling], timeout=20)
    if not done:
        os.kill(first, signal.SIGCONT)
    await filling
    assert done, "it waited until the guardian went on"
    await wait_until(lambda: first not in guardians())
    assert len(guardians() - before) == 1
    assert not gone([group])(), "nothing was ended that goes on"

    mine.forget()  # as if we were over
    await wait_until(gone([group]), timeout=5)
    with pytest.raises(ExecutionFailed, match="ended by signal 9"):
        await asyncio.wait_for(sleeping, 5)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_child_process_that_was_forked_leaves_the_guardian_to_its_parent() -> None:
    await run_process("true")
    assert guardian.GUARDIAN._pipe is not None
    child = os.fork()
    if child == 0:
        os._exit(0 if guardian.GUARDIAN._pipe is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert guardian.GUARDIAN._pipe is not None
    assert (await run_process("echo", "again")).tail == ("again",)


async def test_where_there_is_no_shell_programs_run_unguarded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guardian, "find_shell", lambda: None)
    before = guardians()
    assert (await run_process("echo", "alone")).tail == ("alone",)
    assert guardians() <= before
