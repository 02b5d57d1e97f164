"""The parameters of a `:batch` query: an array for each column, with an element for each call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def as_columns(rows: Sequence[tuple[Any, ...]]) -> list[Sequence[Any]]:
    """The arrays that unnest() makes the rows of again.

    It fills a short one up with NULL, so a column without values costs nothing: asyncpg looks at
    every element of an array three times.
    """
    count = len(rows)
    return [
        () if column[0] is None and column.count(None) == count else column
        for column in zip(*rows, strict=True)
    ]
