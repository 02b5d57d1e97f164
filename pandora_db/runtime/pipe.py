"""The pipe that a program prints into."""

from __future__ import annotations

import asyncio
import os


class Pipe:
    """A pipe that this process made itself, so that it is known before the program is begun.

    Not for Windows, whose event loop reads from pipes of its own kind only.
    """

    def __init__(self) -> None:
        read, self._write = os.pipe()
        self._file = os.fdopen(read, "rb", buffering=0)
        self._transport: asyncio.ReadTransport | None = None
        self.name = f"pipe:{os.fstat(read).st_ino}"
        """What the guardian calls it: by its number, which Linux shows in /proc."""

    async def open(self) -> asyncio.StreamReader:
        """What will come out of it."""
        stream = asyncio.StreamReader()
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), self._file
        )
        return stream

    @property
    def end(self) -> int:
        """The file descriptor that the program gets."""
        return self._write

    def give(self) -> None:
        """The program has its end: what it leaves unwritten is the end of the stream."""
        if self._write >= 0:
            os.close(self._write)
            self._write = -1

    def close(self) -> None:
        """Let go of both ends."""
        self.give()
        if self._transport is None:
            self._file.close()
        else:
            self._transport.close()
