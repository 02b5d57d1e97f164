"""Linux tells of writes to a file; elsewhere one has to look."""

from __future__ import annotations

import asyncio
import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ctypes

_MODIFY, _ONCE = 0x2, 0x80000000  # IN_MODIFY, IN_ONESHOT
_EVENT = struct.Struct("iIII")  # a watch on a file sends no name behind it
_ROOM = 256 * _EVENT.size


class Writes:
    """Calls `call` soon after the first write to the file since `listen`, by whichever process.

    After the first alone: a commit makes some dozens, and each would wake the event loop, just when
    the thread that writes wants the interpreter back.
    """

    def __init__(
        self, library: ctypes.CDLL, handle: int, path: str, call: Callable[[], None]
    ) -> None:
        self._library = library
        self._handle = handle
        self._path = os.fsencode(path)
        self._call = call
        self._loop = asyncio.get_running_loop()

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
        writes = cls(library, handle, path, call)
        try:
            if writes.listen():
                writes._loop.add_reader(handle, writes._read)
                return writes
        except (NotImplementedError, OSError):  # a loop that cannot wait for files
            pass
        os.close(handle)
        return None

    def listen(self) -> bool:
        """Call at the next write; whether that can be."""
        mask = _MODIFY | _ONCE
        return bool(self._library.inotify_add_watch(self._handle, self._path, mask) >= 0)

    def close(self) -> None:
        """Call no more."""
        self._loop.remove_reader(self._handle)
        os.close(self._handle)

    def _read(self) -> None:
        events = b""
        with suppress(BlockingIOError):
            events = os.read(self._handle, _ROOM)
        # The end of the watch is told as well.
        if any(mask & _MODIFY for _, mask, _, _ in _EVENT.iter_unpack(events)):
            self._call()
