"""The encoders: worker processes that are started, watched, replaced when they die, and ended."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from examples.encode_queue.failure import StepError

_END = 8.0  # seconds for an encoder to end when it is asked to
log = logging.getLogger(__name__)


def pid_of(owner: str | None) -> int:
    """The process that the owner of a claim was; 0 for nobody."""
    return int(owner.rsplit(":", 2)[1]) if owner else 0


class Names(dict[int, str]):
    """The names of the worker processes, by their pid, and which of them a signal ended."""

    def __init__(self) -> None:
        super().__init__()
        self.killed: set[int] = set()

    def of(self, owner: str | None) -> str:
        """Who the owner of a claim is, which the history has as "host:pid:…"."""
        pid = pid_of(owner)
        if pid == os.getpid():
            return "this process"
        return f"{self[pid]} (pid {pid})" if pid in self else f"a worker of before (pid {pid})"


@dataclass(slots=True)
class Worker:
    """One worker process, and the last line that it wrote."""

    name: str
    process: asyncio.subprocess.Process
    last: str = ""
    killed: bool = False

    def kill(self) -> None:
        """End it with SIGKILL: it cannot give anything back."""
        self.killed = True
        self.process.kill()

    def __str__(self) -> str:
        return f"{self.name} (pid {self.process.pid})"


class Workers:
    """Keeps `number` encoders at work.

    `heard` is called with each line that one of them logs, `lost` when one was ended by a signal,
    and their `names` are entered.
    """

    def __init__(
        self,
        url: str,
        intro: Path,
        *,
        number: int,
        quick: bool,
        names: Names,
        heard: Callable[[Worker, str], None],
        lost: Callable[[Worker], None],
    ) -> None:
        command = [sys.executable, "-m", "examples.encode_queue.encode", str(intro)]
        self._command = [*command, "--quick"] if quick else command
        # Not on the command line, which every user of the machine can read: it may hold a password.
        self._environment = {**os.environ, "PANDORA_DB_URL": url, "PYTHONUTF8": "1"}
        self._number = number
        self._heard = heard
        self._lost = lost
        self._count = itertools.count(1)
        self._names = names

    async def run(self) -> None:
        """Keep them at work until cancelled, then end them.

        Raises:
            StepError: one ended by itself.
        """
        async with asyncio.TaskGroup() as group:
            for _ in range(self._number):
                group.create_task(self._keep_one())

    async def _keep_one(self) -> None:
        while True:
            worker = await self._start()
            try:
                code = await self._listen(worker)
            finally:
                await self._end(worker)
            if code >= 0 and not worker.killed:
                raise StepError(f"{worker} ended with code {code}: {worker.last or 'no word'}")
            log.info("%s: ended with code %d", worker, code)
            self._names.killed.add(worker.process.pid)
            self._lost(worker)

    async def _start(self) -> Worker:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=self._environment,
            # Ctrl-C at the terminal reaches us and not the encoders: we decide their end.
            start_new_session=True,
        )
        worker = Worker(f"encoder {next(self._count)}", process)
        self._names[process.pid] = worker.name
        log.info("%s: started", worker)
        return worker

    async def _listen(self, worker: Worker) -> int:
        assert worker.process.stderr is not None
        async for raw in worker.process.stderr:
            worker.last = raw.decode(errors="replace").rstrip()
            log.info("%s: %s", worker, worker.last)
            self._heard(worker, worker.last)
        return await worker.process.wait()

    async def _end(self, worker: Worker) -> None:
        """Ask it to end, and wait until it has."""
        if worker.process.returncode is not None:
            return
        assert worker.process.stdin is not None
        worker.process.stdin.close()
        try:
            async with asyncio.timeout(_END):
                _, rest = await worker.process.communicate()
                for raw in rest.splitlines():
                    log.info("%s: %s", worker, raw.decode(errors="replace"))
        except TimeoutError:
            worker.kill()
            await worker.process.wait()
