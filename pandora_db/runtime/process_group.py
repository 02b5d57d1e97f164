"""A child process and all that it starts: begun, asked to end, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio import subprocess
from contextlib import ExitStack, closing, suppress

from pandora_db.drivers.tasks import settle
from pandora_db.runtime.command import Command
from pandora_db.runtime.guardian import GUARDIAN
from pandora_db.runtime.pipe import Pipe

_LOOK = 0.1  # seconds


class ProcessGroup:
    """A program in a process group of its own, so that its children end with it.

    It ends with this process too, even if that is killed; see `guardian`. On Windows, which has no
    such groups, only the program itself is ended, and it outlives a process that is killed.
    """

    def __init__(
        self,
        process: subprocess.Process,
        out: asyncio.StreamReader | None,
        err: asyncio.StreamReader | None,
        pipes: ExitStack,
    ) -> None:
        assert out is not None, "a pipe was asked for"  # noqa: S101
        assert err is not None, "a pipe was asked for"  # noqa: S101
        self.out = out
        """What it prints."""
        self.err = err
        """What it complains of."""
        self._process = process
        self._pipes = pipes
        self._over = False

    @classmethod
    async def start(cls, command: Command) -> ProcessGroup:
        """Start it, with nothing to read and two pipes to write to; cancelled, it is killed."""
        starting = asyncio.ensure_future(_start(command))
        try:
            return await settle(starting)
        except asyncio.CancelledError:
            if not starting.cancelled() and starting.exception() is None:
                group = starting.result()
                try:
                    await group.end(0)
                finally:
                    group.close()
            raise

    def close(self) -> None:
        """Nobody reads on."""
        self._pipes.close()

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        waiting = asyncio.ensure_future(self._process.wait())
        try:
            # Python 3.11's wait() goes on until the pipes are closed, which children may keep open.
            while self._process.returncode is None and not waiting.done():
                await asyncio.wait([waiting], timeout=_LOOK)
        finally:
            waiting.cancel()
        code = self._process.returncode
        return code if code is not None else waiting.result()

    async def end(self, grace: float) -> None:
        """Ask all of it to end, and kill after `grace` seconds what did not; leaves no zombie.

        Goes on to its end when the caller is cancelled. Later calls do nothing: the number of a
        group that is over may be another one's.
        """
        if self._over:
            return
        await settle(asyncio.ensure_future(self._end(grace)))

    async def _end(self, grace: float) -> None:
        if grace > 0 and self._process.returncode is None:
            self._signal(force=False)
            with suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self.wait()
        # The program may have ended well and left children that have not.
        self._signal(force=True)
        await self.wait()
        self._over = True
        GUARDIAN.remove(self._process.pid)

    def _signal(self, *, force: bool) -> None:
        with suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                if self._process.returncode is None:
                    self._process.kill() if force else self._process.terminate()
            else:
                os.killpg(self._process.pid, signal.SIGKILL if force else signal.SIGTERM)


async def _start(command: Command) -> ProcessGroup:
    if sys.platform == "win32":
        process = await _spawn(command, subprocess.PIPE, subprocess.PIPE)
        return ProcessGroup(process, process.stdout, process.stderr, ExitStack())
    with ExitStack() as pipes:
        out, err = (pipes.enter_context(closing(Pipe())) for _ in range(2))
        streams = await out.open(), await err.open()
        names = (out.name, err.name)
        try:
            GUARDIAN.add(*names)
            process = await _spawn(command, out.end, err.end)
            group = ProcessGroup(process, *streams, pipes.pop_all())
            try:
                GUARDIAN.add(process.pid)
                GUARDIAN.remove(*names)
                out.give()
                err.give()
            except BaseException:
                await group.end(0)
                group.close()
                raise
        except BaseException:
            GUARDIAN.remove(*names)
            raise
        return group


async def _spawn(command: Command, out: int, err: int) -> subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command.words,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=err,
        cwd=command.cwd,
        env=command.env,
        # Ctrl-C at the terminal reaches us and not the program: we decide its end.
        start_new_session=True,
    )
