"""A child process and all that it starts: begun, asked to end, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

from pandora_db.drivers.tasks import settle
from pandora_db.runtime.guardian import GUARDIAN, guarded

_LOOK = 0.1  # seconds


class ProcessGroup:
    """A program in a process group of its own, so that its children end with it.

    It ends with this process too, even if that is killed; see `guardian`. On Windows, which has no
    such groups, only the program itself is ended, and it outlives a process that is killed.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._over = False

    @classmethod
    async def start(
        cls,
        program: str,
        *arguments: str,
        cwd: str | os.PathLike[str] | None,
        env: Mapping[str, str] | None,
    ) -> ProcessGroup:
        """Start it, with nothing to read and two pipes to write to; cancelled, it is killed."""
        command = (program, *arguments)
        waiting = guarded(command, cwd=cwd, env=env)
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *(waiting or command),
                stdin=asyncio.subprocess.PIPE if waiting else asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=cwd,
                env=env,
                # Ctrl-C at the terminal reaches us and not the program: we decide its end.
                start_new_session=True,
            )
        )
        try:
            group = cls(await settle(starting))
        except asyncio.CancelledError:
            if not starting.cancelled() and starting.exception() is None:
                await cls(starting.result()).end(0)
            raise
        try:
            group.begin()
        except BaseException:
            await group.end(0)
            raise
        return group

    def begin(self) -> None:
        """Let the program run, guarded from here on."""
        if self._process.stdin is not None:
            GUARDIAN.add(self._process.pid)
            self._process.stdin.write(b"\n")
            self._process.stdin.close()

    @property
    def out(self) -> asyncio.StreamReader:
        """What it prints."""
        assert self._process.stdout is not None, "a pipe was asked for"  # noqa: S101
        return self._process.stdout

    @property
    def err(self) -> asyncio.StreamReader:
        """What it complains of."""
        assert self._process.stderr is not None, "a pipe was asked for"  # noqa: S101
        return self._process.stderr

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
