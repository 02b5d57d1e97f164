"""Checks on the arguments of the store, run before any SQL: the same verdict on every dialect."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import cast
from uuid import UUID

from pandora_db.errors import InvalidInput
from pandora_db.models.checks import check_int, check_text, check_time, path_text, refuse
from pandora_db.models.limits import (
    MAX_AUTHOR,
    MAX_BULK,
    MAX_ERROR,
    MAX_ID,
    MAX_LIMIT,
    MAX_OFFSET,
    MAX_PATH,
    MAX_PRIORITY,
    MIN_PRIORITY,
)

__all__ = [
    "check_author",
    "check_bool",
    "check_id",
    "check_ids",
    "check_int",
    "check_limit",
    "check_offset",
    "check_operation_id",
    "check_path",
    "check_priority",
    "check_progress",
    "check_text",
    "check_time",
    "clean_error",
]


def check_id(value: object, field: str = "job_id") -> int:
    """An id of 0 … 2^63-1; bools, text and floats are refused with `InvalidInput`."""
    if type(value) is int and 0 <= value <= MAX_ID:
        return value
    return check_int(value, field, 0, MAX_ID)


def check_ids(values: Iterable[object], field: str = "job_ids") -> list[int]:
    """At most 1,000,000 ids, in the order given; raises `InvalidInput`."""
    given = cast("object", values)
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        refuse(field, values, "several ids")
    ids = [check_id(value, field) for value in islice(values, MAX_BULK + 1)]
    if len(ids) > MAX_BULK:
        raise InvalidInput(f"{field} has too many ids; expected at most {MAX_BULK}", field=field)
    return ids


def check_limit(value: object, field: str = "limit") -> int:
    """How many rows to return, 1 … 100,000; raises `InvalidInput`."""
    return check_int(value, field, 1, MAX_LIMIT)


def check_offset(value: object, field: str = "offset") -> int:
    """How many rows to skip, 0 or more; raises `InvalidInput`."""
    return check_int(value, field, 0, MAX_OFFSET)


def check_author(value: object, field: str = "author") -> str:
    """The name of an author, 1 to 256 characters; raises `InvalidInput`."""
    return check_text(value, field, MAX_AUTHOR, least=1)


def check_path(value: object, field: str = "directory") -> str:
    """A path given as text or `os.PathLike`, as text; raises `InvalidInput`."""
    return check_text(path_text(value), field, MAX_PATH)


def check_priority(value: object, field: str = "priority") -> int:
    """-32767 … 32767; raises `InvalidInput`."""
    return check_int(value, field, MIN_PRIORITY, MAX_PRIORITY)


def check_progress(value: object, field: str = "progress") -> float:
    """The done part, 0 … 1, as a float or int; raises `InvalidInput`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        refuse(field, value, "a number from 0 to 1: 0.5 is half")
    return float(value)


def check_bool(value: object, field: str) -> bool:
    """True or False, nothing that is merely like them; raises `InvalidInput`."""
    if not isinstance(value, bool):
        refuse(field, value, "True or False")
    return value


def check_operation_id(value: object, field: str = "operation_id") -> UUID:
    """A `uuid.UUID`; raises `InvalidInput`."""
    if not isinstance(value, UUID):
        refuse(field, value, "a uuid.UUID")
    return value


def clean_error(value: object, field: str = "error", most: int = MAX_ERROR) -> str:
    r"""An error text, or a line of a log, that can always be stored.

    NUL and lone surrogates are escaped (`\x00`, `\ud800`), and what exceeds `most` characters is
    cut with a mark of its full length. An exception becomes `Type: message`.

    Raises:
        InvalidInput: neither text nor an exception.
    """
    if isinstance(value, BaseException):
        text = f"{type(value).__name__}: {_say(value)}".removesuffix(": ")
    elif isinstance(value, str):
        text = value
    else:
        refuse(field, value, "text or an exception")
    text = text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
    if len(text) <= most:
        return text
    mark = f" … (cut; {len(text)} characters in all)"
    return text[: most - len(mark)] + mark


def _say(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - a failure must always be storable
        return f"(its text cannot be made: {type(second).__name__})"
