"""What a job tells beside its progress: warnings, errors that did not end it, and metrics."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

from pandora_db.codecs.checks import check_text, clean_error
from pandora_db.codecs.json_text import encode_json
from pandora_db.errors import InvalidInput

if TYPE_CHECKING:
    from pandora_db.models.job_row import JobRow

_KEPT = 50
_METRICS = 200
_LONGEST = 1_000
_NAME = 128


class Notes:
    """Kept in `progress_data`, over attempts and restarts: the last 50 of a kind, and how many.

    However long they are, they fit in there beside the largest `Progress`. What stands there may be
    another program's: what is of no use is left out.
    """

    def __init__(self, job: JobRow) -> None:
        self.warnings: list[str] = []
        self.errors: list[str] = []
        self.counts: dict[str, float] = {"warnings": 0, "errors": 0}
        self.metrics: dict[str, float] = {}
        stored: object = json.loads(job.progress_data) if job.progress_data else None
        if isinstance(stored, dict):
            self._restore(cast("dict[str, Any]", stored).get("notes"))

    def _restore(self, stored: object) -> None:
        if not isinstance(stored, dict):
            return
        notes = cast("dict[str, object]", stored)
        self.warnings = _texts(notes.get("warnings"))
        self.errors = _texts(notes.get("errors"))
        counts, metrics = _facts(notes.get("counts")), _facts(notes.get("metrics"))
        self.counts |= {kind: n for kind, n in counts.items() if kind in self.counts and n >= 0}
        self.metrics = dict(list(metrics.items())[:_METRICS])

    def warn(self, message: str) -> str:
        """Add a warning."""
        return self._add("warnings", self.warnings, message)

    def add_error(self, error: str | BaseException) -> str:
        """Add an error that the job goes on after."""
        return self._add("errors", self.errors, error)

    def measure(self, name: str, value: float, *, add: bool) -> None:
        """Set a metric, or add to it."""
        check_text(name, "name", _NAME, least=1)
        _check_number(value, name)
        if name not in self.metrics and len(self.metrics) >= _METRICS:
            raise InvalidInput(f"a job keeps at most {_METRICS} metrics", field="name")
        value += self.metrics.get(name, 0) if add else 0
        self.metrics[name] = _check_number(value, name)

    def to_data(self) -> dict[str, Any]:
        """What is kept, as it is now; nothing where there is nothing."""
        facts: dict[str, Any] = {  # copies: a handler's thread goes on noting
            "warnings": self.warnings.copy(),
            "errors": self.errors.copy(),
            "counts": {kind: count for kind, count in self.counts.items() if count},
            "metrics": self.metrics.copy(),
        }
        return {name: value for name, value in facts.items() if value}

    def _add(self, kind: str, kept: list[str], said: str | BaseException) -> str:
        text = _shortened(said, kind)
        kept.append(text)
        del kept[:-_KEPT]
        self.counts[kind] += 1
        return text


def _shortened(said: str | BaseException, kind: str) -> str:
    return clean_error(said, kind)[:_LONGEST]


def _check_number(value: object, name: str) -> float:
    """Not when all is written, where it would stop the rest."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"metric {name} is {value!r}; expected a number", field="value")
    encode_json(value, f"metric {name}")
    return value


def _texts(stored: object) -> list[str]:
    """The texts of what may be a list of anything."""
    items = cast("list[object]", stored) if isinstance(stored, list) else []
    return [_shortened(text, "note") for text in items if isinstance(text, str)][-_KEPT:]


def _facts(stored: object) -> dict[str, float]:
    """The numbers that can be kept of what may be an object of anything."""
    if not isinstance(stored, dict):
        return {}
    kept: dict[str, float] = {}
    for name, number in cast("dict[str, object]", stored).items():
        with suppress(InvalidInput):
            kept[check_text(name, "name", _NAME, least=1)] = _check_number(number, name)
    return kept
