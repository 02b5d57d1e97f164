"""Outcomes: what a handler returns. A value and no exception says what becomes of its job."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TypeAlias, cast

from pydantic import BaseModel

from pandora_db.codecs.checks import check_bool, check_path, check_text, clean_error
from pandora_db.codecs.claim import check_seconds
from pandora_db.errors import InvalidInput, Serialization
from pandora_db.models.claim import Backoff
from pandora_db.models.limits import MAX_STEP


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done: the job goes on to its next stage, or has ended.

    Attributes:
        output: the result, as JSON or a pydantic model; None leaves what is stored.
        kind: what kind of result it is.
        file: a file that was made.
    """

    output: object = None
    kind: str | None = None
    file: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.kind is not None:
            check_text(self.kind, "kind", MAX_STEP)
        if self.file is not None:
            check_path(self.file, "file")


@dataclass(frozen=True, slots=True)
class Snooze:
    """Something is not ready yet: the job waits `seconds` or longer; the attempt does not count."""

    seconds: float

    def __post_init__(self) -> None:
        check_seconds(self.seconds, "seconds")


@dataclass(frozen=True, slots=True)
class Fail:
    """The attempt has failed, as if its error had been raised.

    Attributes:
        error: text or an exception.
        retry_in: seconds, or a `Backoff`, before the next attempt; None takes the worker's.
        final: there shall be no further attempt.
    """

    error: str | BaseException
    retry_in: float | Backoff | None = None
    final: bool = False

    def __post_init__(self) -> None:
        clean_error(self.error)
        check_bool(self.final, "final")
        if self.retry_in is None:
            return
        if self.final:
            raise InvalidInput(
                "retry_in was given with final=True; expected one of both", field="retry_in"
            )
        if not isinstance(self.retry_in, Backoff):
            check_seconds(self.retry_in, "retry_in")


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job is not wanted any more: it has ended, and its `reason` is kept as its output."""

    reason: str | None = None

    def __post_init__(self) -> None:
        if self.reason is not None:
            object.__setattr__(self, "reason", clean_error(self.reason, "reason"))


Outcome: TypeAlias = Done | Snooze | Fail | Cancelled
_NOTHING = Done()


def read_outcome(value: object) -> Outcome:
    """What a handler meant by what it returned: anything but an outcome is an output."""
    if value is None:
        return _NOTHING
    if isinstance(value, (Done, Snooze, Fail, Cancelled)):
        return value
    return Done(value)


def plain_output(value: object, *, again: bool = False) -> object:
    """An output with its models turned into JSON values.

    For models that are to be made of them `again`, these are named as the fields are, and what is
    computed is left out.

    Raises:
        Serialization: a model in it cannot be.
    """
    if value is None:
        return None
    if isinstance(value, BaseModel):
        return _plain_model(value, again=again)
    if isinstance(value, dict):
        mapping = cast("dict[object, object]", value)
        return {key: plain_output(item, again=again) for key, item in mapping.items()}
    if isinstance(value, list | tuple):
        return [plain_output(item, again=again) for item in cast("list[object]", value)]
    return value


def _plain_model(model: BaseModel, *, again: bool) -> object:
    try:
        if again:
            return model.model_dump(mode="json", by_alias=False, round_trip=True)
        return model.model_dump(mode="json")
    except Exception as error:
        # Its serialisers are the program's own: they may raise anything.
        what = f"output is a value of type {type(model).__name__} that makes no JSON"
        raise Serialization(f"{what}: {clean_error(error)}", field="output") from error
