"""Where the value is that a checkpoint cannot hold; looked for only when there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from pydantic import BaseModel

from pandora_db.codecs.checkpoint.classes import model_fields
from pandora_db.codecs.checkpoint.pack import collide, model_head
from pandora_db.codecs.checkpoint.survey import KEYS, Family, family_of
from pandora_db.codecs.checkpoint.types import Odd
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import describe
from pandora_db.models.limits import (
    MAX_CHECKPOINT_DEPTH,
    MAX_CHECKPOINT_ITEMS,
    MAX_CHECKPOINT_KEY,
)

if TYPE_CHECKING:
    from pandora_db.codecs.checkpoint.pack import Packing

_FIELD = "state"
_SHOWN = 40
_NO_KEY = object()
_LONGEST = 300
_TYPES = (
    "None, bool, int, float, str, bytes, list, tuple, dict, set, frozenset, datetime, date, time, "
    "timedelta, UUID, Decimal, Path, an Enum's member or a pydantic model"
)


class Where(NamedTuple):
    """Where some values stand: so many containers deep, each at `path(index)`."""

    depth: int
    path: Callable[[int], str]


def step(path: str, key: object, *, model: bool = False) -> str:
    """The path of a field or item below `path`."""
    if model:
        return f"{path}.{key}"
    if isinstance(key, str | bytes) and len(key) > _SHOWN:
        return f"{path}[{key[:_SHOWN]!a}…]"
    if type(key) is int and key.bit_length() > _SHOWN * 3:
        return f"{path}[a long int]"
    return f"{path}[{key!a}]" if type(key) in KEYS else f"{path}[…]"


def refuse_odd(values: list[Any], where: Where, packing: Packing) -> NoReturn:
    """Raise `InvalidInput` for the first of `values` that cannot be stored, with its path."""
    search = _Search(packing)
    message = None
    for index, value in enumerate(values):
        message = search.find(value, where.path(index), where.depth)
        if message:
            break
    raise InvalidInput(message or f"{_FIELD} was changed while it was packed", field=_FIELD)


class _Search:
    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._above: set[int] = set()
        self._left = MAX_CHECKPOINT_ITEMS

    def find(self, value: Any, path: str, depth: int) -> str | None:  # noqa: ANN401
        self._left -= 1
        if self._left < 0:
            return f"{_FIELD} has too many values; expected at most {MAX_CHECKPOINT_ITEMS}"
        problem = self._single(value)
        if problem is not None:
            return _say(path, problem) if problem else None
        if id(value) in self._above:
            return _say(path, "part of itself; expected a state without cycles")
        if depth >= MAX_CHECKPOINT_DEPTH:
            return _say(path, f"too deep; expected at most {MAX_CHECKPOINT_DEPTH} levels")
        self._above.add(id(value))
        try:
            return self._collisions(value, path) or self._inside(value, path, depth)
        finally:
            self._above.remove(id(value))

    def _single(self, value: Any) -> str | None:  # noqa: ANN401
        """What is wrong with a value that holds no others: "" for nothing, None for a container."""
        try:
            family = family_of(type(value))  # type: ignore[arg-type]  # pyright: ignore[reportUnknownArgumentType]
            if family in {Family.PLAIN, Family.TEXT, Family.SINGLE}:
                self._packing.pack_plain(value)
                return ""
            if family is Family.MODEL:
                model_head(value)
        except UnicodeEncodeError:
            return f"{describe(value)}; expected text without lone surrogates"
        except Odd as odd:
            return odd.what or f"{describe(value)}; expected {_TYPES}"
        return None

    def _inside(self, value: Any, path: str, depth: int) -> str | None:  # noqa: ANN401
        for key, item, inner in _steps(value, path):
            if key is not _NO_KEY and (problem := self._key(key, path)):
                return problem
            if problem := self.find(item, inner, depth + 1):
                return problem
        return None

    def _key(self, key: object, path: str) -> str | None:
        at = f"a key of {path}"
        if type(key) not in KEYS:
            return _say(at, f"{describe(key)}; expected text, int or bytes")
        if isinstance(key, str | bytes) and len(key) > MAX_CHECKPOINT_KEY:
            return _say(at, f"of length {len(key)}; expected at most {MAX_CHECKPOINT_KEY}")
        return self.find(key, at, 0)

    def _collisions(self, value: Any, path: str) -> str | None:  # noqa: ANN401
        if isinstance(value, set | frozenset | dict):
            held = cast("set[Any]", value)
            if collide(held, len(held)):
                return _say(path, "a set or dict whose hashes collide; expected a list")
        return None


def _steps(value: Any, path: str) -> Iterator[tuple[object, object, str]]:  # noqa: ANN401
    if isinstance(value, BaseModel):
        for name, item in model_fields(value).items():
            yield name, item, step(path, name, model=True)
    elif isinstance(value, dict):
        for key, item in cast("Any", value).items():
            yield key, item, step(path, key)
    elif isinstance(value, set | frozenset):
        for item in cast("set[Any]", value):
            yield _NO_KEY, item, f"a member of {path}"
    else:
        for index, item in enumerate(value):
            yield _NO_KEY, item, f"{path}[{index}]"


def _say(path: str, what: str) -> str:
    shown = path if len(path) <= _LONGEST else f"{path[:_LONGEST]}…"
    return f"{shown} is {what}"
