"""Blocking Python, such as hashing, kept off the event loop."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import ParamSpec, TypeVar

from pandora_db.models.checks import refuse

P = ParamSpec("P")
T = TypeVar("T")

GRACE = 5.0
"""Seconds that a cancelled `run_blocking` waits for its function."""

_stop: contextvars.ContextVar[threading.Event | None] = contextvars.ContextVar("stop", default=None)


def stop_requested() -> bool:
    """Whether who awaits this work was cancelled; for functions in `run_blocking` to look at.

    A handler that is asked to stop is cancelled after `grace`; `ctx.interrupted` tells at once.
    """
    event = _stop.get()
    return event is not None and event.is_set()


async def run_blocking(func: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a blocking function in a thread of its own and await what it returns.

    A thread cannot be killed. When the awaiting task is cancelled, `stop_requested()` answers True
    in it from then on; for `GRACE` seconds its end is awaited, and then it is left alone. It is a
    daemon: it does not keep the process alive.

    Raises:
        InvalidInput: `func` is an async function.
    """
    if inspect.iscoroutinefunction(func):
        refuse("func", func, "a plain function; an async one is awaited")
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()
    stop = threading.Event()
    context = contextvars.copy_context()
    context.run(_stop.set, stop)

    def tell(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    def work() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = context.run(func, *args, **kwargs)
        except StopIteration as error:  # no future takes one
            failure = RuntimeError(f"the function raised {error!r}")
            failure.__cause__ = error
        except BaseException as error:  # noqa: BLE001 - it is raised where it is awaited
            failure = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell, result, failure)

    name = f"pandora_db {getattr(func, '__name__', 'work')}"
    threading.Thread(target=work, name=name, daemon=True).start()
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        stop.set()
        await _wait(future, GRACE)
        if future.done() and not future.cancelled():
            future.exception()  # seen, though nobody is left to hear it
        else:
            future.cancel()
        raise


async def _wait(future: asyncio.Future[T], seconds: float) -> None:
    """Wait until it is done or the time is over, whoever cancels meanwhile."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not future.done() and (left := end - loop.time()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([future], timeout=left)
