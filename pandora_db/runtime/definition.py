"""`JobDefinition`: a registered class, and how its jobs are kept and read again."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import msgpack
from pydantic import BaseModel, TypeAdapter, ValidationError

from pandora_db.errors import ExecutionFailed, InvalidInput, Serialization
from pandora_db.runtime.keeping import first_loss
from pandora_db.runtime.outcomes import (
    Cancelled,
    Done,
    Fail,
    Outcome,
    Snooze,
    plain_output,
    read_outcome,
)
from pandora_db.runtime.outputs import JobOutput

_OUTCOMES = (Done, Snooze, Fail, Cancelled)
_ANYTHING = TypeAdapter[Any](Any)


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """What is known of the jobs of one name.

    Attributes:
        name: the name that is stored with them.
        kind: the class.
        resumable: whether a job that was interrupted goes on.
        description: for people.
        version: of the shape of its fields.
        output: what `run` says that it returns.
    """

    name: str
    kind: type[BaseModel]
    resumable: bool = True
    description: str | None = None
    version: int = 1
    output: TypeAdapter[Any] = _ANYTHING

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON Schema of its parameters."""
        return self.kind.model_json_schema()

    def create(self, params: object) -> BaseModel:
        """A job made of JSON text, or of a dict of its fields.

        Raises:
            InvalidInput: the parameters do not fit the schema; `.field` names the first bad one.
        """
        try:
            if isinstance(params, str | bytes):
                return self.kind.model_validate_json(params)
            return self.kind.model_validate(params)
        except ValidationError as error:
            field, text = _first(error)
            raise InvalidInput(f"{self.name}: {text}", field=field) from None

    def pack(self, job: BaseModel) -> bytes:
        """Its fields as MessagePack, without those that are transient.

        Raises:
            Serialization: a field cannot be kept, or would come back as something else.
        """
        try:
            fields = job.model_dump(mode="json", by_alias=False, round_trip=True)
            packed = msgpack.packb({"version": self.version, "fields": fields})
        except (TypeError, ValueError, OverflowError) as error:
            raise Serialization(f"{self.name} cannot be kept: {error}") from error
        self._check_kept(job, fields)
        return packed

    def unpack(self, blob: bytes) -> BaseModel:
        """The job that `pack` made bytes of; transient fields are made anew.

        Raises:
            Serialization: the bytes are no such job, or of a newer version.
        """
        try:
            found: Any = msgpack.unpackb(blob)
            version, fields = int(found["version"]), found["fields"]
        except Exception as error:
            raise Serialization(f"the parameters of {self.name} cannot be read: {error}") from error
        self._check_version(version, "parameters")
        try:
            return self._read(self.upgrade(fields, version))
        except ValidationError as error:
            field, text = _first(error)
            raise Serialization(f"the parameters of {self.name}: {text}", field=field) from None

    def state(self, job: BaseModel) -> tuple[object, int]:
        """What a checkpoint keeps of a job, and its version."""
        return job.model_dump(mode="python", by_alias=False, round_trip=True), self.version

    def restore(self, state: object) -> BaseModel:
        """The job that `state` was kept of."""
        try:
            return self.kind.model_validate(state, by_alias=False, by_name=True)
        except ValidationError as error:
            field, text = _first(error)
            raise Serialization(f"the state of {self.name}: {text}", field=field) from None

    def upgrade(self, fields: Any, version: int) -> Any:  # noqa: ANN401 - whatever was stored
        """Fields of an older version in the shape of this one, by the class's `upgrade`."""
        if version == self.version:
            return fields
        upgrade: Any = getattr(self.kind, "upgrade", None)
        return fields if upgrade is None else upgrade(fields, version)

    def read_output(self, value: object) -> Outcome:
        """What `run` meant by what it returned, its output as JSON values for `load_output`.

        An output of another type than it names fails the job, as does one that cannot be kept.
        """
        outcome = read_outcome(value)
        if not isinstance(outcome, Done):
            return outcome
        try:
            output: object = self.output.validate_python(outcome.output, strict=True)
        except ValidationError as error:
            _, text = _first(error)
            given = type(outcome.output).__name__
            wrong = f"{self.name} returned a {given}, which is not the output that it names: {text}"
            return Fail(ExecutionFailed(wrong), final=True)
        kind = outcome.kind
        if kind is None and output is not None:
            kind = output.kind if isinstance(output, JobOutput) else JobOutput.kind
        try:
            kept = plain_output(output, again=True)
        except (Serialization, RecursionError) as error:
            wrong = f"{self.name} returned what cannot be kept: {error}"
            return Fail(ExecutionFailed(wrong), final=True)
        return Done(kept, kind, outcome.file)

    def load_output(self, output: object) -> Any:  # noqa: ANN401 - what `run` returns
        """The output that is stored as these JSON values, in the type that `run` names.

        Raises:
            Serialization: it is of another type, as the class was changed.
        """
        try:
            return self.output.validate_json(json.dumps(output), by_alias=False, by_name=True)
        except ValidationError as error:
            field, text = _first(error)
            raise Serialization(f"the output of {self.name}: {text}", field=field) from None

    def _read(self, fields: object) -> BaseModel:
        # As JSON: what is strict about types still takes their JSON forms. Names of fields are
        # what was kept: an alias may be for the one way only.
        return self.kind.model_validate_json(json.dumps(fields), by_alias=False, by_name=True)

    def _check_kept(self, job: BaseModel, fields: object) -> None:
        """Refuse a job that `unpack` would make into another one."""
        try:
            loss = first_loss(job, self._read(fields))
        except ValidationError as error:
            field, text = _first(error)
            raise Serialization(
                f"{self.name} cannot be kept: {self.kind.__name__} does not take what JSON keeps "
                f"of its fields: {text}",
                field=field,
            ) from None
        if loss is not None:
            field = ".".join(loss.path) or None
            where = ".".join((self.kind.__name__, *loss.path))
            raise Serialization(
                f"{self.name} cannot be kept: {where}, a {loss.kind}, would come back as another "
                "value; expected one that its type reads from JSON as it was, "
                "or a field_serializer that writes it so",
                field=field,
            )

    def _check_version(self, version: int, what: str) -> None:
        if version > self.version:
            raise Serialization(
                f"the {what} of {self.name} are of version {version}, "
                f"this program knows {self.version}"
            )


def output_of(kind: type[Any]) -> TypeAdapter[Any]:
    """What its `run` is annotated to return, apart from outcomes; anything if nothing is said.

    Raises:
        InvalidInput: the annotation cannot be resolved, or pydantic knows no schema for it.
    """
    annotations: dict[str, Any] = getattr(kind.run, "__annotations__", {})
    if "return" not in annotations:
        return _ANYTHING
    said = annotations["return"]
    try:
        wanted = _without_outcomes(_resolved(kind.run, said))
    except Exception as error:
        raise _no_output(
            kind, said, "can be resolved where the class is registered: imported outside "
            "`if TYPE_CHECKING`, or defined before it at the top of the module", error,
        ) from error  # fmt: skip
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(wanted)
    except Exception as error:
        raise _no_output(
            kind, said, "pydantic knows, such as a JobOutput, or Any", error
        ) from error
    return adapter


def _resolved(run: object, said: object) -> Any:  # noqa: ANN401 - any type
    """An annotation of `run` by itself: the others may name what type checkers alone see."""
    inner: Any = inspect.unwrap(cast("Callable[..., object]", run))
    alone: Any = types.SimpleNamespace(
        __annotations__={"return": said},
        __globals__=getattr(inner, "__globals__", {}),
        __type_params__=getattr(inner, "__type_params__", ()),
    )
    return get_type_hints(alone)["return"]


def _without_outcomes(said: Any) -> Any:  # noqa: ANN401 - any type
    members = get_args(said) if get_origin(said) in (Union, types.UnionType) else (said,)
    if Done in members:  # it may hold anything
        return Any
    left = [member for member in members if member not in _OUTCOMES]
    wanted: Any = left[0] if left else types.NoneType
    for member in left[1:]:
        wanted |= member
    return wanted


def _no_output(kind: type[Any], said: object, wanted: str, error: Exception) -> InvalidInput:
    text = said if isinstance(said, str) else getattr(said, "__name__", repr(said))
    reason = str(error).partition("\n")[0]
    return InvalidInput(
        f"{kind.__name__}.run is annotated to return {text}: {reason}; expected what {wanted}",
        field="run",
    )


def _first(error: ValidationError) -> tuple[str | None, str]:
    """The field of the first problem, and all that is to say."""
    problems = error.errors(include_url=False, include_input=False)
    field = ".".join(map(str, problems[0]["loc"])) or None
    texts = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}".lstrip(": ") for one in problems[:5]]
    return field, "; ".join(texts)


def transient_without_default(kind: type[BaseModel]) -> list[str]:
    """The fields that are left out of the state and could not be made anew."""
    fields: Mapping[str, Any] = kind.model_fields
    return [name for name, info in fields.items() if info.exclude and info.is_required()]
