"""Workers that are forked from a process which has imported everything: they start in milliseconds.

Run as `python -m tests.faults.nursery MODULE`, it takes commands on its standard input and forks
children that call `MODULE.main(name, …)`. All of them write to one standard output, a line of JSON
in one piece, so that the order of the lines is the order of what happened.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import select
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SIGNALS = {
    "kill": signal.SIGKILL, "stop": signal.SIGSTOP, "resume": signal.SIGCONT, "end": signal.SIGTERM,
}  # fmt: skip


def say(kind: str, **facts: object) -> None:
    """Write one line; up to 4 KiB no other process's line gets into it."""
    os.write(1, (json.dumps({"kind": kind, **facts}) + "\n").encode())


class Nursery:
    """A nursery for the length of an `async with` block; `hear` is given every line that is said.

    It adds two lines of its own: "killed" (by our signal) and "gone" (by itself, with its status).
    """

    def __init__(self, module: str, hear: Callable[[dict[str, Any]], None]) -> None:
        self._module = module
        self._hear = hear

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.faults.nursery", self._module,
            cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=2**24,
        )  # fmt: skip
        self._listening = asyncio.ensure_future(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._listening
        assert await self._process.wait() == 0

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._hear(json.loads(line))

    def start(self, name: str, *arguments: object) -> None:
        self._command("start", name, *arguments)

    def signal(self, what: str, name: str) -> None:
        """Send "kill", "stop", "resume" or "end" to a child, if it is still there."""
        self._command(what, name)

    def _command(self, *words: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write((json.dumps(words) + "\n").encode())


class _Children:
    def __init__(self, module: str) -> None:
        self._main = importlib.import_module(module).main
        self._pids: dict[str, int] = {}
        gc.freeze()  # what is shared with the children stays shared

    def obey(self, word: str, name: str, *arguments: object) -> None:
        if word == "start":
            self._fork(name, arguments)
        elif name in self._pids:
            os.kill(self._pids[name], SIGNALS[word])
            if word == "kill":
                at = time.time()
                os.waitpid(self._pids.pop(name), 0)
                say("killed", worker=name, at=at)

    def _fork(self, name: str, arguments: tuple[object, ...]) -> None:
        pid = os.fork()
        if pid:
            self._pids[name] = pid
            return
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            asyncio.run(self._main(name, *arguments))
        except BaseException:  # noqa: BLE001 - the status tells
            traceback.print_exc()
            os._exit(1)
        os._exit(0)

    def reap(self) -> None:
        for name, pid in list(self._pids.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._pids[name]
                say("gone", worker=name, at=time.time(), status=os.waitstatus_to_exitcode(status))

    def end(self) -> None:
        # Nobody may be there to hear of it: who started the nursery was killed.
        for pid in self._pids.values():
            os.kill(pid, signal.SIGKILL)
        with suppress(BrokenPipeError):
            for name in list(self._pids):
                self.obey("kill", name)


def _serve(module: str) -> None:
    children = _Children(module)
    try:
        waiting = b""
        while True:
            ready, _, _ = select.select([0], [], [], 0.02)
            if ready:
                some = os.read(0, 65536)
                if not some:
                    return
                *lines, waiting = (waiting + some).split(b"\n")
                for line in lines:
                    children.obey(*json.loads(line))
            children.reap()
    finally:
        children.end()


if __name__ == "__main__":
    _serve(sys.argv[1])
