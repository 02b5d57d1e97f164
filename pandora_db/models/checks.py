"""Refuse a value in one sentence: what it is, and what is expected.

The same checks guard the models and the arguments of the store, so that both dialects give the
same verdict (`InvalidInput`) before any SQL runs. Texts and secrets are described, never echoed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import NoReturn, TypeAlias, cast

from pandora_db.errors import InvalidInput
from pandora_db.models.limits import (
    MAX_JSON,
    MAX_JSON_DEPTH,
    MAX_JSON_FLOAT,
    MAX_SECONDS,
    MAX_TAG,
    MAX_TAGS,
)

Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
"""A value that JSON can hold."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_INT64 = 2**63
_HUGE = 2**70
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_KEY_SHOWN = 40
_WIDEST = 32  # no number or character takes more bytes of JSON


def describe(value: object) -> str:
    """What `value` is, in a few words; text is measured, not echoed."""
    match value:
        case None:
            return "None"
        case str():
            return _describe_text(value)
        case bool() | float():
            return f"{value!r} (a {type(value).__name__})"
        case int():
            return str(int(value)) if -_HUGE < value < _HUGE else "an int of more than 70 bits"
        case datetime():
            zone = "" if value.tzinfo else " without time zone"
            return f"{value.isoformat(sep=' ')}{zone}"
        case _:
            return _describe_other(value)


def _describe_other(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    size = f", {len(value)} long" if isinstance(value, bytes) else ""
    return f"a value of type {type(value).__name__}{size}"


def _describe_text(value: str) -> str:
    if not value:
        return "an empty text"
    if "\0" in value:
        return f"text with a NUL character at position {value.index(chr(0))}"
    surrogate = _SURROGATE.search(value)
    if surrogate:
        return f"text with a lone surrogate at position {surrogate.start()}"
    return f"a text of {counted(len(value), 'character')}"


def type_name(value: object) -> str:
    """The type of `value` with its module, which tells one `Connection` from another."""
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{prefix}{kind.__qualname__}"


def counted(number: int, noun: str) -> str:
    """So many of them, for people: 1 lease, 2 leases."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def refuse(field: str, value: object, expected: str) -> NoReturn:
    """Raise `InvalidInput` for `field`."""
    raise InvalidInput(f"{field} is {describe(value)}; expected {expected}", field=field)


def expected_text(least: int, most: int) -> str:
    """What a text of `least` to `most` characters is called in an error message."""
    span = f"{least} to {most}" if least else f"at most {most}"
    return f"text of {span} characters, without NUL or lone surrogates"


def check_text(value: object, field: str, most: int, *, least: int = 0) -> str:
    """`value` when it is text of `least` to `most` characters that both engines can store."""
    if (
        not isinstance(value, str)
        or not least <= len(value) <= most
        or "\0" in value
        or (not value.isascii() and _SURROGATE.search(value))
    ):
        refuse(field, value, expected_text(least, most))
    return value


def check_int(value: object, field: str, least: int, most: int) -> int:
    """`value` when it is an int (a bool is none) of `least` to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        refuse(field, value, expected_int(least, most))
    return int(value)


def expected_int(least: int, most: int) -> str:
    """What an int of `least` to `most` is called in an error message."""
    upper = "2^63-1" if most == _INT64 - 1 else str(most)
    return f"an int from {least} to {upper}"


EXPECTED_TIME = (
    "an aware datetime or whole unix seconds, 0 to 253402300799 (1970-01-01 to 9999-12-31 UTC)"
)


EXPECTED_CONFIG = "a dict with text keys and JSON values, or None"


EXPECTED_MOMENT = "an aware datetime or unix seconds, 0 to 253402300799 (to 9999-12-31 UTC)"


EXPECTED_TAGS = (
    f"at most {MAX_TAGS} texts of 1 to {MAX_TAG} characters, without NUL or lone surrogates"
)


def check_tags(value: object, field: str = "tags") -> tuple[str, ...]:
    """Tags without repeats, in order; a single text is no list of tags."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        refuse(field, value, EXPECTED_TAGS)
    given: list[object] = list(islice(cast("Iterable[object]", value), MAX_TAGS + 1))
    if len(given) > MAX_TAGS:
        raise InvalidInput(f"{field} has more than {MAX_TAGS} tags", field=field)
    return tuple(sorted({check_text(tag, field, MAX_TAG, least=1) for tag in given}))


def check_time(value: object, field: str) -> int:
    """Whole unix seconds of an aware datetime (rounded down) or of an int that is them already."""
    return int(_seconds(value, field, EXPECTED_TIME, whole=True))


def check_moment(value: object, field: str) -> float:
    """Unix seconds, with their fraction, of an aware datetime or of a number that is them."""
    return float(_seconds(value, field, EXPECTED_MOMENT, whole=False))


def _seconds(value: object, field: str, expected: str, *, whole: bool) -> float:
    if isinstance(value, datetime) and value.utcoffset() is not None:
        since = value - _EPOCH
        seconds = since // _SECOND if whole else since / _SECOND  # exact, unlike timestamp()
    elif isinstance(value, int if whole else int | float) and not isinstance(value, bool):
        seconds = value
    else:
        refuse(field, value, expected)
    if not 0 <= seconds <= MAX_SECONDS:
        refuse(field, value, expected)
    return seconds


def path_text(value: object) -> object:
    """The text of an `os.PathLike`; anything else as it is, for `check_text` to judge."""
    if isinstance(value, str):  # asking whether it is an os.PathLike takes longer than all the rest
        return value
    if not isinstance(value, os.PathLike):
        return value
    return os.fspath(cast("os.PathLike[str]", value))


def decode_json(text: str | None, field: str) -> Json:
    """The value of stored JSON text; None for NULL.

    Raises:
        InvalidInput: another program stored what is not JSON.
    """
    if text is None:
        return None
    try:
        value: Json = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{field} holds text that is not JSON", field=field) from None
    return value


def check_json(
    value: object, field: str, *, most: int = MAX_JSON, levels: int = MAX_JSON_DEPTH
) -> Json:
    """A copy of `value` when both engines store it as JSON and read it back equal.

    Takes None, bool, int (64 bits, exact on both), finite float below 1e16, text without NUL or
    lone surrogates, list, tuple (becomes a list) and dict with text keys, to a depth of `levels`.

    Raises:
        InvalidInput: anything else, or more than `most` bytes; the message has the path to it.
    """
    walk = _JsonCopy(field, most, levels)
    copy = walk.copy(value, field, 0)
    if most - walk.room > most // _WIDEST:
        dump_json(copy, field, most)
    return copy


def dump_json(value: Json, field: str, most: int = MAX_JSON) -> str:
    """Compact JSON text of a checked `value`; raises `InvalidInput` above `most` bytes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    size = len(text) if text.isascii() else len(text.encode())
    if size > most:
        message = f"{field} takes {size} bytes as JSON; expected at most {most}"
        raise InvalidInput(message, field=field)
    return text


class _JsonCopy:
    """One walk through a JSON value; counts, so that shared or cyclic parts cannot blow it up."""

    def __init__(self, field: str, most: int, levels: int) -> None:
        self.field = field
        self.most = most
        self.levels = levels
        self.room = most

    def copy(self, value: object, path: str, depth: int) -> Json:
        self.room -= 1
        if self.room < 0:
            self.refuse(self.field, f"too large; expected at most {self.most} bytes as JSON")
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.text(value, path)
        if isinstance(value, int | float):
            return self.number(value, path)
        if depth >= self.levels:
            self.refuse(path, f"nested too deep; expected at most {self.levels} levels")
        if isinstance(value, dict):
            return self.pairs(cast("dict[object, object]", value), path, depth)
        if not isinstance(value, list | tuple):
            expected = "JSON: None, bool, int, float, text, list or dict with text keys"
            self.refuse(path, f"{describe(value)}; expected {expected}")
        items = cast("Iterable[object]", value)
        return [self.copy(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(items)]

    def number(self, value: float, path: str) -> int | float:
        if isinstance(value, int):
            if not -_INT64 <= value < _INT64:
                self.refuse(path, f"{describe(value)}; expected an int of 64 bits")
            return int(value)
        if not -MAX_JSON_FLOAT < value < MAX_JSON_FLOAT:
            expected = "a finite float below 1e16 (give larger numbers as int or text)"
            self.refuse(path, f"{describe(value)}; expected {expected}")
        return float(value)

    def pairs(self, value: dict[object, object], path: str, depth: int) -> dict[str, Json]:
        copy: dict[str, Json] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                self.refuse(f"a key of {path}", f"{describe(key)}; expected text")
            name = self.text(key, f"a key of {path}")
            shown = name if len(name) <= _KEY_SHOWN else f"{name[:_KEY_SHOWN]}…"
            copy[name] = self.copy(item, f"{path}.{shown}", depth + 1)
        return copy

    def text(self, value: str, path: str) -> str:
        self.room -= len(value)
        if "\0" in value or (not value.isascii() and _SURROGATE.search(value)):
            expected = "text without NUL or lone surrogates"
            self.refuse(path, f"{describe(value)}; expected {expected}")
        return str.__str__(value)  # of a text that is an enum: its value, as json has it

    def refuse(self, path: str, what: str) -> NoReturn:
        raise InvalidInput(f"{path} is {what}", field=self.field)
