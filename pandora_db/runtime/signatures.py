"""What a function must be like for a worker to call it."""

from __future__ import annotations

import inspect

from pandora_db.errors import InvalidInput


def check_async(function: object, name: str, form: str, *, arguments: int, field: str) -> None:
    """Refuse what is no async function, or cannot be called with so many arguments.

    Args:
        function: what is to be called.
        name: what it is called in the message.
        form: how it is expected to be declared.
        arguments: how many it is given.
        field: which field of the error it is.
    """
    expected = f"expected `{form}`, with blocking work in run_blocking()"
    if not inspect.iscoroutinefunction(function):
        raise InvalidInput(f"{name} is no async function; {expected}", field=field)
    if hasattr(function, "__wrapped__") or hasattr(function, "__signature__"):
        return  # a decorator tells of what it wraps, which may take more
    signature = inspect.signature(function)
    try:
        signature.bind(*[None] * arguments)
    except TypeError as error:
        raise InvalidInput(
            f"{name}{signature} cannot be called with a context: {error}; {expected}", field=field
        ) from error
