"""Linux tells of every write to a file; elsewhere one has to look."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Self

_MODIFY = 0x2  # IN_MODIFY
_ROOM = 4096


class Writes:
    """Calls `call` soon after each write to the file, by whichever process of this machine."""

    def __init__(self, handle: int, call: Callable[[], None]) -> None:
        self._handle = handle
        self._call = call
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(handle, self._read)

    @classmethod
    def to(cls, path: str, call: Callable[[], None]) -> Self | None:
        """Begin; None where that cannot be."""
        if sys.platform != "linux":
            return None
        try:
            import ctypes  # noqa: PLC0415 - some milliseconds that few programs need

            library = ctypes.CDLL(None)
            handle = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (ImportError, OSError, AttributeError):  # a Python or a C library without it
            return None
        if handle < 0:  # the user has too many
            return None
        try:
            if library.inotify_add_watch(handle, os.fsencode(path), _MODIFY) >= 0:
                return cls(handle, call)
        except (NotImplementedError, OSError):  # a loop that cannot wait for files
            pass
        os.close(handle)
        return None

    def close(self) -> None:
        """Call no more."""
        self._loop.remove_reader(self._handle)
        os.close(self._handle)

    def _read(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._handle, _ROOM)
        self._call()
