"""Handles of one process on one file tell each other of their commits."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import TypeAlias

from pandora_db.drivers.base import OnNews

_Ear: TypeAlias = tuple[asyncio.AbstractEventLoop, OnNews]

_ears: dict[tuple[int, ...], tuple[_Ear, ...]] = {}
_changing = threading.Lock()  # handles may live in several threads, each with its own event loop


class Neighbours:
    """One handle among all that this process has on its file; in memory it is alone."""

    def __init__(self, path: str | None) -> None:
        # The number of the process: a child that was forked must not ring in its parent's loops.
        self._key: tuple[int, ...] = (os.getpid(), id(self))
        if path is not None:
            facts = os.stat(path)  # noqa: PTH116 - once for each handle
            self._key = (os.getpid(), facts.st_dev, facts.st_ino)

    def join(self, on_news: OnNews) -> Callable[[], None]:
        """Have `on_news` called here after each commit that others may watch, until undone."""
        mine = (asyncio.get_running_loop(), on_news)

        def leave() -> None:
            with _changing:
                left = tuple(one for one in _ears.get(self._key, ()) if one is not mine)
                if left:
                    _ears[self._key] = left
                else:
                    _ears.pop(self._key, None)

        with _changing:
            _ears[self._key] = (*_ears.get(self._key, ()), mine)
        return leave

    @property
    def listen(self) -> bool:
        """Whether anybody does, this handle itself among them."""
        return self._key in _ears

    def tell(self, stages: Collection[int] | None) -> None:
        """There was a commit; see `OnNews`."""
        for loop, on_news in _ears.get(self._key, ()):
            if loop is asyncio.get_running_loop():
                on_news(stages)
            else:
                with suppress(RuntimeError):  # it was closed with its handle forgotten
                    loop.call_soon_threadsafe(on_news, stages)
