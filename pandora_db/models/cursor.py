"""Where a watcher stopped, as text that outlives the program."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NamedTuple, NoReturn, cast

from pandora_db.errors import InvalidInput

_MARK = "w1."
_LONGEST = 65_536
EventPlace = tuple[Any, int, int, int]
"""Of an event within a window: time, job, life of the job, seq."""


class WatchCursor(NamedTuple):
    """Everything up to the mark `lower` was handed out; of what follows up to `upper`, a part.

    Attributes:
        dialect: whose marks these are.
        origin: which database.
        lower: what was read to the end.
        upper: the end of the window that was being handed out, if one was.
        place: the last event of it that was.
    """

    dialect: str
    origin: str
    lower: str
    upper: str | None = None
    place: EventPlace | None = None

    def __str__(self) -> str:
        packed = json.dumps(tuple(self), separators=(",", ":")).encode()
        return _MARK + urlsafe_b64encode(packed).rstrip(b"=").decode()


def parse_cursor(value: object, dialect: str, origin: str, field: str = "after") -> WatchCursor:
    """The cursor of this database that `value` is the text of; raises `InvalidInput`."""
    cursor = decode_cursor(value, field)
    if cursor.dialect != dialect:
        raise InvalidInput(
            f"{field} is a cursor of {cursor.dialect}; this database is {dialect}", field=field
        )
    if cursor.origin != origin:
        raise InvalidInput(
            f"{field} is a cursor of another database, or of this one before it was made anew",
            field=field,
        )
    return cursor


def decode_cursor(value: object, field: str = "after") -> WatchCursor:
    """A cursor of whichever database; raises `InvalidInput`."""
    if not isinstance(value, str) or len(value) > _LONGEST or not value.startswith(_MARK):
        _refuse(value, field)
    try:
        text = value.removeprefix(_MARK).encode("ascii")
        parts: object = json.loads(urlsafe_b64decode(text + b"=" * (-len(text) % 4)))
    except (ValueError, RecursionError):
        _refuse(value, field)
    match parts:
        case [str(), str(), str(lower), None, None] if _is_mark(lower):
            pass
        case [str(), str(), str(lower), str(upper), [str() | int(), int(), int(), int()]] if (
            _is_mark(lower) and _is_mark(upper)
        ):
            pass
        case _:
            _refuse(value, field)
    dialect, origin, lower, upper, place = cast("list[Any]", parts)
    return WatchCursor(dialect, origin, lower, upper, None if place is None else tuple(place))


def _is_mark(text: str) -> bool:
    return bool(text) and set(text) <= set("0123456789:,")


def _refuse(value: object, field: str) -> NoReturn:
    shown = repr(value)
    shown = shown if len(shown) <= 40 else f"{shown[:40]}…"  # noqa: PLR2004 - enough to know it by
    raise InvalidInput(f"{field} is {shown}; expected the cursor of a watch, or None", field=field)
