"""Handles of one process on one file tell each other of their commits."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

_Ring: TypeAlias = tuple[asyncio.AbstractEventLoop, Callable[[], None]]

_rings: dict[tuple[int, ...], tuple[_Ring, ...]] = {}
_changing = threading.Lock()  # handles may live in several threads, each with its own event loop


class Neighbours:
    """One handle among all that this process has on its file; in memory it is alone."""

    def __init__(self, path: str | None) -> None:
        # The number of the process: a child that was forked must not ring in its parent's loops.
        self._key: tuple[int, ...] = (os.getpid(), id(self))
        if path is not None:
            facts = os.stat(path)  # noqa: PTH116 - once for each handle
            self._key = (os.getpid(), facts.st_dev, facts.st_ino)

    def join(self, ring: Callable[[], None]) -> Callable[[], None]:
        """Have `ring` called in this event loop after each commit, until undone."""
        mine = (asyncio.get_running_loop(), ring)

        def leave() -> None:
            with _changing:
                left = tuple(one for one in _rings.get(self._key, ()) if one is not mine)
                if left:
                    _rings[self._key] = left
                else:
                    _rings.pop(self._key, None)

        with _changing:
            _rings[self._key] = (*_rings.get(self._key, ()), mine)
        return leave

    def tell(self) -> None:
        """There was a commit."""
        for loop, ring in _rings.get(self._key, ()):
            if loop is asyncio.get_running_loop():
                ring()
            else:
                with suppress(RuntimeError):  # it was closed with its handle forgotten
                    loop.call_soon_threadsafe(ring)
