"""Enum and model classes by name: `module:qualname`, found among what is imported already."""

from __future__ import annotations

import sys
from enum import Enum
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import BaseModel, RootModel

if TYPE_CHECKING:
    from collections.abc import Mapping

_Class = TypeVar("_Class", bound="type[Enum | BaseModel]")
MAX_NAME: Final = 512


class NoSuchClass(LookupError):
    """The class of a stored value is not to be found; says what to do."""


def class_name(kind: type) -> str | None:
    """The name by which `find_class` finds `kind`; None when there is none."""
    name = f"{kind.__module__}:{kind.__qualname__}"
    return name if len(name) <= MAX_NAME and _look_up(name) is kind else None


def find_class(name: object, base: _Class) -> _Class:
    """The class of that name, below `base`; imports nothing and runs no code of the module.

    Raises:
        NoSuchClass: it is not there, or is no such class.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise NoSuchClass("the name of a class is no name")
    found = _look_up(name)
    if found is None:
        raise NoSuchClass(
            f"it holds a value of the class {name!a}, which is not there: "
            "its module must be imported before load_checkpoint"
        )
    if not issubclass(found, base) or class_name(found) != name:
        raise NoSuchClass(f"{name!a} is not a class of {base.__name__} values")
    return found  # type: ignore[return-value]


def _look_up(name: str) -> type | None:
    module_name, _, qualname = name.partition(":")
    module = sys.modules.get(module_name)
    # Through the dicts, not by getattr: a module or a metaclass may run code when it is asked.
    found: object = module if isinstance(module, ModuleType) else None
    for part in qualname.split("."):
        if not isinstance(found, type | ModuleType):
            return None
        found = found.__dict__.get(part)
    return found if isinstance(found, type) else None


@lru_cache(maxsize=256)
def model_shape(kind: type[BaseModel]) -> tuple[str | None, tuple[str, ...]]:
    """The `class_name` of a model's class, and its fields."""
    return class_name(kind), tuple(kind.__pydantic_fields__)


def model_fields(model: BaseModel) -> dict[str, Any]:
    """Fields and extras of a model; cached properties and private attributes are not of it."""
    names = model_shape(type(model))[1]
    held: dict[str, Any] = model.__dict__  # pyright: ignore[reportAssignmentType]
    if tuple(held) != names:
        held = {name: held[name] for name in names if name in held}
    extra = model.__pydantic_extra__
    return {**held, **extra} if extra else held


def build_model(kind: type[BaseModel], fields: Mapping[str, object], unset: list[str]) -> BaseModel:
    """The model again, validated; whatever its validators raise goes through."""
    validate = kind.__pydantic_validator__.validate_python
    if issubclass(kind, RootModel):
        model: BaseModel = validate(fields["root"])
    else:
        model = validate(fields, by_name=True, by_alias=False)
    if unset:
        model.model_fields_set.difference_update(unset)
    return model
