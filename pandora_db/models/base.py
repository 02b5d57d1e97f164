"""The base of what callers hand in: a frozen pydantic model that refuses with `InvalidInput`."""

from __future__ import annotations

import difflib
from inspect import Parameter, Signature
from types import UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    NoReturn,
    Self,
    Union,
    get_args,
    get_origin,
)

from pydantic import BaseModel, ConfigDict, ValidationError

from pandora_db.errors import InvalidInput
from pandora_db.models.checks import refuse

if TYPE_CHECKING:
    from collections.abc import Mapping


class InputModel(BaseModel):
    """Validated in pydantic-core, refused as `InvalidInput` with `.field` and one plain sentence.

    That holds for the constructor, `model_validate*` and `model_copy`, which validates again.
    As a field of somebody else's pydantic model it takes part in that model's `ValidationError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    expected: ClassVar[Mapping[str, str]] = {}
    """What each field takes, in words, for the error message."""

    def __init__(self, /, *unnamed: object, **data: object) -> None:
        if unnamed:
            name, first = type(self).__name__, next(iter(type(self).model_fields))
            raise InvalidInput(f"{name} takes its fields by name: {name}({first}=…)", field=first)
        try:
            self.__pydantic_validator__.validate_python(data, self_instance=self)
        except ValidationError as error:
            self._refuse(error)

    # Tells pydantic that this constructor only validates, so that validation need not call it.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @classmethod
    def __pydantic_init_subclass__(cls, **options: object) -> None:
        """Let `help()` and editors show the types of the fields without how they are checked."""
        super().__pydantic_init_subclass__(**options)
        cls.__signature__ = Signature(
            [
                Parameter(
                    field.alias or name,
                    Parameter.KEYWORD_ONLY,
                    default=Parameter.empty if field.is_required() else field.get_default(),
                    annotation=_plain(field.annotation),
                )
                for name, field in cls.model_fields.items()
            ]
        )

    @classmethod
    def model_validate(cls, obj: object, **options: Any) -> Self:  # noqa: ANN401 - pydantic's
        """As pydantic's, but raises `InvalidInput`."""
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            cls._refuse(error)

    @classmethod
    def model_validate_json(
        cls,
        json_data: str | bytes | bytearray,
        **options: Any,  # noqa: ANN401 - pydantic's
    ) -> Self:
        """As pydantic's, but raises `InvalidInput`."""
        try:
            return super().model_validate_json(json_data, **options)
        except ValidationError as error:
            cls._refuse(error)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with the fields of `update` replaced; validated, unlike pydantic's.

        Raises:
            InvalidInput: a value or the name of a field was refused.
        """
        if not update:
            return super().model_copy(deep=deep)
        fields = type(self).model_fields
        given = {fields[name].alias or name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**given, **update})

    @classmethod
    def _refuse(cls, error: ValidationError) -> NoReturn:
        problems = error.errors(include_url=False)
        # A misspelt field shows up as a missing one too: name the spelling.
        problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
        field = str(problem["loc"][0]) if problem["loc"] else None
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, InvalidInput):
            raise cause from None
        if field is None:
            raise InvalidInput(f"{cls.__name__} cannot be read: {problem['msg']}") from None
        expected = cls.expected.get(field, "another value")
        if problem["type"] == "extra_forbidden":
            raise InvalidInput(cls._no_such_field(field), field=field) from None
        if problem["type"] == "missing":
            message = f"{field} is missing; expected {expected}"
            raise InvalidInput(message, field=field) from None
        try:
            refuse(field, problem["input"], expected)
        except InvalidInput as refusal:
            raise refusal from None

    @classmethod
    def _no_such_field(cls, field: str) -> str:
        known = [info.alias or name for name, info in cls.model_fields.items()]
        close = difflib.get_close_matches(field, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
        return f"{cls.__name__} has no field {field!r}; {hint}"


def _plain(annotation: Any) -> Any:  # noqa: ANN401 - any type
    """A type without what `Annotated` adds to it."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _plain(get_args(annotation)[0])
    if origin is Union or origin is UnionType:
        first, *others = map(_plain, get_args(annotation))
        for one in others:
            first |= one
        return first
    return annotation
