"""The parameters of a `:batch` query: an array for each column, with an element for each call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


class Flat:
    """An array without arrays in it, which asyncpg need not look at for its shape.

    asyncpg (0.31, 0.32) goes through an array twice. First it asks of each element whether that is
    an array too, by two abstract base classes, which takes five times as long as to write it; so
    the first time there are none.
    """

    __slots__ = ("_is_shape_known", "_values")

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values
        self._is_shape_known = False

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        if self._is_shape_known:
            return iter(self._values)
        self._is_shape_known = True
        return iter(())

    def __repr__(self) -> str:  # asyncpg names what it refuses
        return repr(self._values)


def as_columns(rows: Sequence[tuple[Any, ...]]) -> list[Flat | None]:
    """The arrays that unnest() makes the rows of again.

    It fills up with NULL what is shorter than the longest, so a column without values is none.
    """
    count = len(rows)
    return [
        None if column[0] is None and column.count(None) == count else Flat(column)
        for column in zip(*rows, strict=True)
    ]
