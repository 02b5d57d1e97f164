"""Blocking functions run beside the loop, and learn that nobody waits for them any more."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time

import pytest

from pandora_db import InvalidInput
from pandora_db.runtime import blocking as blocking_module
from pandora_db.runtime import run_blocking, stop_requested

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME")


async def test_it_runs_in_another_thread_with_the_same_context() -> None:
    NAME.set("job 5")
    found = await run_blocking(lambda: (threading.get_ident(), NAME.get(), stop_requested()))
    assert found[0] != threading.get_ident()
    assert found[1:] == ("job 5", False)


async def test_an_async_function_is_refused() -> None:
    with pytest.raises(InvalidInput, match="a plain function; an async one is awaited"):
        await run_blocking(asyncio.sleep, 1)


async def test_what_it_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        await run_blocking(lambda: 1 / 0)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await run_blocking(next, iter(()))


async def test_the_loop_turns_meanwhile() -> None:
    task = asyncio.create_task(run_blocking(time.sleep, 0.2))
    turns = 0
    while not task.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert turns >= 5


async def test_a_function_that_looks_stops_with_its_task() -> None:
    ended = threading.Event()

    def count() -> None:
        while not stop_requested():
            time.sleep(0.005)
        ended.set()

    task = asyncio.create_task(run_blocking(count))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_one_that_does_not_look_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocking_module, "GRACE", 0.1)
    release = threading.Event()
    task = asyncio.create_task(run_blocking(release.wait, 20))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not release.is_set()
    release.set()
