"""What a job, kept as JSON and read again, has lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeAlias, cast

from pydantic import BaseModel

from pandora_db.codecs.checkpoint.classes import model_fields


class Loss(NamedTuple):
    """A value that came back as another one.

    Attributes:
        path: where it stands; empty for the whole.
        kind: the name of its class, which tells nothing of what may be a secret.
    """

    path: tuple[str, ...]
    kind: str


_Pair: TypeAlias = tuple[str, Any, Any]
_PLAIN = frozenset({str, int, float, bool, type(None)})


def first_loss(given: object, read: object, path: tuple[str, ...] = ()) -> Loss | None:
    """The first value of `given` that is another one in `read`; transient fields do not count."""
    pairs = (_members if issubclass(type(given), list | tuple) else _named)(given, read)
    if pairs is None:
        return None if _is_same(given, read) else Loss(path, type(given).__name__)
    for name, one, other in pairs:
        if loss := first_loss(one, other, (*path, name)):
            return loss
    return None


def _members(given: object, read: object) -> list[_Pair] | None:
    """What stands in both lists or tuples; None where they are to be compared as a whole."""
    ones, others = cast("Sequence[Any]", given), cast("Sequence[Any]", read)
    if type(given) is not type(read) or len(ones) != len(others):
        return None
    if _PLAIN.issuperset(map(type, ones)) and ones == others:  # as most long ones are
        return []
    return [(str(at), *pair) for at, pair in enumerate(zip(ones, others, strict=True))]


def _named(given: object, read: object) -> list[_Pair] | None:
    """What stands in both mappings, models or dataclasses; None as above."""
    kinds: set[type[object]] = {type(given), type(read)}
    if len(kinds) > 1 and not all(issubclass(kind, Mapping) for kind in kinds):
        return None
    ones, others = _fields(given), _fields(read)
    if ones is None or others is None or ones.keys() != others.keys():
        return None
    return [(str(name), one, others[name]) for name, one in ones.items()]


def _fields(value: object) -> Mapping[Any, Any] | None:
    """The items of a mapping, or the fields that are kept of a model or dataclass."""
    if isinstance(value, Mapping):
        return cast("Any", value)  # type: ignore[no-any-return]
    if isinstance(value, BaseModel):
        held = model_fields(value)
    elif dataclasses.is_dataclass(value):
        held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    else:
        return None
    known: dict[str, Any] = getattr(type(value), "__pydantic_fields__", {})
    return {name: one for name, one in held.items() if not (name in known and known[name].exclude)}


def _is_same(given: object, read: object) -> bool:
    kind = type(given)
    alike = kind is type(read)
    if issubclass(kind, Enum) and not alike:  # a member that is text too equals the text
        return False
    if alike and _equality(kind) is _equality(object):  # nothing tells them apart
        return True
    try:
        return bool(given == read or (given != given and read != read))  # noqa: PLR0124 - NaN
    except Exception:  # noqa: BLE001 - comparing is anybody's code
        return alike


def _equality(kind: type) -> object:
    return kind.__eq__
