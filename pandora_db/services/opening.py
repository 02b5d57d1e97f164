"""What `JobDb.open(…)` gives: a handle for the length of a block, and a hint for any other use."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, Protocol, TypeVar

USE = "use `async with JobDb.open(…) as db:`, or `db = await JobDb.connect(…)`"


class _Closes(Protocol):
    async def close(self) -> None: ...


H = TypeVar("H", bound=_Closes)


class Opening(Generic[H]):
    """Connects at the entry of an `async with` block, and closes at its end."""

    def __init__(self, connect: Callable[[], Awaitable[H]]) -> None:
        self._connect = connect
        self._opened: list[H] = []

    async def __aenter__(self) -> H:
        self._opened.append(await self._connect())
        return self._opened[-1]

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._opened.pop().close()

    if not TYPE_CHECKING:  # type checkers refuse such uses by themselves

        def __await__(self) -> NoReturn:
            raise TypeError(f"JobDb.open(…) cannot be awaited: {USE}")

        def __enter__(self) -> NoReturn:
            raise TypeError(f"JobDb.open(…) is for `async with`, not for `with`: {USE}")

        def __exit__(self, *_: object) -> None: ...

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(f"JobDb.open(…) is no handle yet, and has no {name}: {USE}")
