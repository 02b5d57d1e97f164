"""How far a job is, in one of several shapes."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from pandora_db.codecs.checks import check_int, check_progress, check_text
from pandora_db.codecs.json_text import Json
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import check_json, refuse
from pandora_db.models.limits import MAX_ID, MAX_JSON_DEPTH, MAX_PROGRESS, MAX_STEP

if TYPE_CHECKING:
    from pandora_db.models.job_row import JobRow


_KINDS = ("percentage", "count", "bytes", "structured", "indeterminate")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is; made by one of the class methods.

    Attributes:
        fraction: 0 … 1; None when nobody can say.
        step: what is being done, in words.
        kind: "percentage", "count", "bytes", "structured" or "indeterminate".
        done: how many, of a count or of bytes.
        total: of how many; None when that is not known.
        data: what a structured progress tells, at most 256 KiB as JSON and 63 levels deep; a copy
            of what was given.
    """

    fraction: float | None = None
    step: str | None = None
    kind: str = "indeterminate"
    done: int | None = None
    total: int | None = None
    data: Json = None

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            refuse("kind", self.kind, f"one of {', '.join(_KINDS)}")
        if self.fraction is not None:
            check_progress(self.fraction)
        if self.step is not None:
            check_text(self.step, "step", MAX_STEP)
        if self.done is not None:
            check_int(self.done, "done", 0, MAX_ID)
        if self.total is not None:
            check_int(self.total, "total", 0, MAX_ID)
        if self.data is not None:
            # Whoever goes on changing what was told must not spoil what is written later.
            object.__setattr__(self, "data", _copied(self.data))

    @classmethod
    def percentage(cls, fraction: float, step: str | None = None) -> Self:
        """A part of 1: `Progress.percentage(0.5)` is half."""
        return cls(fraction, step, "percentage")

    @classmethod
    def count(cls, done: int, total: int | None = None, step: str | None = None) -> Self:
        """So many things, of so many."""
        return cls(_part(done, total), step, "count", done, total)

    @classmethod
    def bytes(cls, done: int, total: int | None = None, step: str | None = None) -> Self:
        """So many bytes, of so many."""
        return cls(_part(done, total), step, "bytes", done, total)

    @classmethod
    def structured(
        cls, data: Json, *, fraction: float | None = None, step: str | None = None
    ) -> Self:
        """Any JSON value of at most 256 KiB, 63 levels deep: a summary, not the state itself."""
        return cls(fraction, step, "structured", data=data)

    @classmethod
    def indeterminate(cls, step: str | None = None) -> Self:
        """It goes on, and nobody can say how far it is."""
        return cls(None, step)

    def to_data(self) -> dict[str, Any]:
        """What is kept of it beside fraction and step."""
        facts = {"kind": self.kind, "done": self.done, "total": self.total, "data": self.data}
        return {name: value for name, value in facts.items() if value is not None}

    @classmethod
    def of(cls, job: JobRow) -> Self:
        """The progress of a stored job, whoever wrote it; of another shape, the fraction alone."""
        stored: object = json.loads(job.progress_data) if job.progress_data else None
        facts = cast("dict[str, Any]", stored) if isinstance(stored, dict) else {}
        if facts.get("kind") in _KINDS:
            told = (facts["kind"], facts.get("done"), facts.get("total"), facts.get("data"))
            with suppress(InvalidInput):
                return cls(job.progress, job.current_step, *told)
        kind = "indeterminate" if job.progress is None else "percentage"
        return cls(job.progress, job.current_step, kind)


def _copied(data: Json) -> Json:
    try:  # one level and most of the bytes of `progress_data` are not for it
        return check_json(data, "data", most=MAX_PROGRESS, levels=MAX_JSON_DEPTH - 1)
    except InvalidInput as error:
        advice = "tell a summary, and keep the rest in a checkpoint or in a file of ctx.data_dir"
        raise InvalidInput(f"{error}; {advice}", field="data") from None


def _part(done: int, total: int | None) -> float | None:
    check_int(done, "done", 0, MAX_ID)
    if total is None:
        return None
    check_int(total, "total", 0, MAX_ID)
    return min(done / total, 1.0) if total else 1.0
