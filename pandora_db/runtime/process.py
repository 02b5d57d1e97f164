"""Blocking programs, such as ffmpeg, kept off the event loop and never left behind."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pandora_db.codecs.checks import check_bool
from pandora_db.codecs.claim import check_seconds
from pandora_db.errors import ExecutionFailed
from pandora_db.models.checks import refuse
from pandora_db.runtime.command import Command
from pandora_db.runtime.lines import read_lines
from pandora_db.runtime.process_group import ProcessGroup

OnLine = Callable[[str], Awaitable[None] | None]

_TAIL = 20  # lines
_SAID = 2_000  # characters of them in an error
_DRAIN = 1.0  # seconds for what is left in a pipe that a child of the program keeps open


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """How a program ended: its exit code, negative for a signal, and its last lines."""

    code: int
    tail: tuple[str, ...]


async def run_process(
    program: str | os.PathLike[str],
    *arguments: str | os.PathLike[str],
    on_line: OnLine | None = None,
    on_error_line: OnLine | None = None,
    timeout: float | None = None,
    grace: float = 5.0,
    check: bool = True,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> ProcessResult:
    r"""Run a program to its end, in a process group of its own.

    When the awaiting task is cancelled - its job was cancelled, its lease lost, the worker shuts
    down - the whole group is asked to end (SIGTERM) and killed after `grace` seconds, before the
    cancellation goes on. So it is when a callback raises. When this process is killed, the group is
    killed too, where there is a `sh`.

    Args:
        program: what to run; no shell is asked.
        *arguments: its arguments.
        on_line: called, or awaited, with each line of its output; `\r` ends a line too.
        on_error_line: the same for its error output.
        timeout: seconds that it may run.
        grace: seconds between asking it to end and killing it.
        check: whether an exit code other than 0 is an error.
        cwd: the folder it runs in.
        env: its environment, exactly; None for this one's.

    Raises:
        ExecutionFailed: it cannot be started, ended with another code than 0, or took longer than
            `timeout`; the message holds the end of what it said.
        InvalidInput: a bad argument; nothing was started.
    """
    command = Command.of(program, arguments, cwd, env)
    _check_call(on_line, "on_line")
    _check_call(on_error_line, "on_error_line")
    check_bool(check, "check")
    if timeout is not None:
        check_seconds(timeout, "timeout")
    check_seconds(grace, "grace")
    name = os.path.basename(command.words[0])  # noqa: PTH119 - of text, on any system
    try:
        group = await ProcessGroup.start(command)
    except OSError as error:
        raise ExecutionFailed(f"{name} cannot be started: {error}") from error
    tail: deque[str] = deque(maxlen=_TAIL)
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            code = await _follow(group, tail, on_line, on_error_line)
    except TimeoutError as error:
        if not limit.expired():  # a callback's own
            raise
        raise ExecutionFailed(
            f"{name} was stopped: it ran longer than {timeout:g} s{_said(tail)}"
        ) from error
    finally:
        try:
            await group.end(grace)
        finally:
            group.close()
    if check and code != 0:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
        raise ExecutionFailed(f"{name} {how}{_said(tail)}", code=code)
    return ProcessResult(code, tuple(tail))


def _check_call(value: object, field: str) -> None:
    if value is not None and not callable(value):
        refuse(field, value, "what is called with each line, or None")


async def _follow(
    group: ProcessGroup, tail: deque[str], on_line: OnLine | None, on_error_line: OnLine | None
) -> int:
    readers = [_Reader(group.out, tail, on_line), _Reader(group.err, tail, on_error_line)]
    reading: list[asyncio.Future[Any]] = [asyncio.ensure_future(one.read()) for one in readers]
    ending: asyncio.Future[Any] = asyncio.ensure_future(group.wait())
    pending = {*reading, ending}
    try:
        while not ending.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # what a callback raised ends the program
        await group.end(0)  # children that it left behind, which keep the pipes open
        left = set(reading)
        while left:
            seen = [reader.seen for reader in readers]
            done, left = await asyncio.wait(left, timeout=_DRAIN)
            for task in done:
                task.result()
            # One that left the group may keep a pipe open for ever.
            if seen == [reader.seen for reader in readers] and not any(r.busy for r in readers):
                break
        code: int = ending.result()
    finally:
        for task in (*reading, ending):
            task.cancel()
        await asyncio.gather(*reading, ending, return_exceptions=True)
    return code


class _Reader:
    """Hands on the lines of one pipe."""

    def __init__(self, stream: asyncio.StreamReader, tail: deque[str], call: OnLine | None) -> None:
        self._stream = stream
        self._tail = tail
        self._call = call
        self.seen = 0
        self.busy = False

    async def read(self) -> None:
        async for line in read_lines(self._stream):
            self.seen += 1
            self._tail.append(line)
            if self._call is None:
                continue
            self.busy = True
            answer = self._call(line)
            if inspect.isawaitable(answer):
                await answer
            self.busy = False


def _said(tail: deque[str]) -> str:
    text = "\n".join(tail).strip()[-_SAID:]
    return f":\n{text}" if text else ""
