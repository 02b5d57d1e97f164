"""What the values of a row mean: SQLite knows neither booleans nor times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from pandora_db.sqlfiles import Query

_BOOLEANS = frozenset({"archived"})
_TIMES = frozenset({"at", "created_at", "completed_at", "lease_until", "updated_at"})


class Converted(NamedTuple):
    """Which columns of an answer are booleans, and which are times."""

    booleans: tuple[int, ...]
    times: tuple[int, ...]


# By the text of a statement, filled in the thread where it first answers, and read in the loop too.
_converted: dict[str, Converted | None] = {}


def converted_of(text: str, description: Sequence[Sequence[Any]]) -> Converted | None:
    """What to convert in the answer of a statement; None for nothing."""
    if text not in _converted:
        names = [column[0] for column in description]
        booleans = tuple(i for i, name in enumerate(names) if name in _BOOLEANS)
        times = tuple(i for i, name in enumerate(names) if name in _TIMES)
        _converted[text] = Converted(booleans, times) if booleans or times else None
    return _converted[text]


def meant(rows: Iterable[Sequence[Any]], converted: Converted) -> list[Any]:
    """The rows with booleans and times."""
    booleans, times = converted
    parse = datetime.fromisoformat
    found: list[Any] = []
    for row in rows:  # the loops are written out: a call for each value takes half as long again
        values = list(row)
        for index in booleans:
            if (number := values[index]) is not None:
                values[index] = bool(number)
        for index in times:
            if (text := values[index]) is not None:
                try:
                    values[index] = parse(f"{text}+00:00")  # ten times as fast as replace()
                except ValueError:
                    values[index] = _odd_time(text)
        found.append(tuple(values))
    return found


def _odd_time(text: str) -> datetime | None:
    """Another program's, with an offset of its own or no time of day."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:  # no time at all; the rest of the row can still be read
        return None


def is_read_later(query: Query) -> bool:
    """Whether what `query` answers in a flight is left to `answer_of`.

    Whoever waits for one call of the flight waits for all of them: a hundred claims are read in the
    event loop, while the next flight is out. A list of jobs may be long and is read in the thread.
    """
    return query.makes_events


def answer_of(query: Query, rows: list[Any]) -> list[Any]:
    """What `query` has answered in a flight."""
    if not is_read_later(query):
        return rows
    for statement in reversed(query.statements):
        if statement.text in _converted:  # it is the last one that has answered
            converted = _converted[statement.text]
            return rows if converted is None else meant(rows, converted)
    return rows
