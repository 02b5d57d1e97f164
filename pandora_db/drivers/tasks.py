"""Awaiting what must not be left half done."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def settle(future: asyncio.Future[T]) -> T:
    """Await `future` to its end even when cancelled, then let the cancellation go on."""
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        if not future.cancelled():
            future.exception()  # seen, though nobody is left to hear it
        raise


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Run `work` in a task of its own and await its end even when cancelled."""
    return await settle(asyncio.ensure_future(work))
