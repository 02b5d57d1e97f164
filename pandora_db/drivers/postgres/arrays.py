"""The parameters of a `:batch` query: an array for each column, with an element for each call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any


class Flat:
    """One column, in which asyncpg need not look for arrays.

    Its `array_encode` takes the count from `len()`, goes through the elements to find arrays among
    them, and goes through them again to write them. The first way asks abstract base classes about
    each, which takes most of the time. Nothing can be found here, so the first iterator is empty;
    every later one has all elements.

    Whoever went through it once only would announce `len()` elements and send none, which the
    server refuses; whoever goes more often, or sends it again, is slower and sends the same. Looked
    up in 0.31 and 0.32: look again before another is let in.
    """

    __slots__ = ("_values", "_was_looked_at")

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values
        self._was_looked_at = False

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        if self._was_looked_at:
            return iter(self._values)
        self._was_looked_at = True
        return iter(())

    def __repr__(self) -> str:  # asyncpg names what it refuses
        return repr(self._values)


def as_columns(rows: Sequence[tuple[Any, ...]]) -> list[Flat | None]:
    """The arrays that unnest() makes the rows of again.

    unnest() fills up with NULL what is shorter than the longest: a column of NULLs is sent as one.
    """
    count = len(rows)
    return [
        None if column[0] is None and column.count(None) == count else Flat(column)
        for column in zip(*rows, strict=True)
    ]
