"""Waiting for what is about to happen, instead of sleeping and hoping."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def wait_until(
    probe: Callable[[], T | Awaitable[T]],
    *,
    timeout: float = 10.0,
    interval: float = 0.01,
) -> T:
    """Call `probe`, plain or async, until what it answers is true, and return that.

    Raises:
        AssertionError: it was not true within `timeout` seconds; names the last answer.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = probe()
        value: T = await answer if inspect.isawaitable(answer) else answer
        if value:
            return value
        if time.monotonic() > deadline:
            message = f"not so within {timeout} s; the last answer was {value!r}"
            raise AssertionError(message)
        await asyncio.sleep(interval)
