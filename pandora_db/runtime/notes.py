"""What a job tells beside its progress: warnings, errors that did not end it, and metrics."""

from __future__ import annotations

import json
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

    What stands there may be another program's: what is of no use is left out.
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
        self.warnings = [text for text in _items(notes.get("warnings")) if isinstance(text, str)]
        self.errors = [text for text in _items(notes.get("errors")) if isinstance(text, str)]
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
        if isinstance(value, bool) or not isinstance(value, int | float):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidInput(f"metric {name} is {value!r}; expected a number", field="value")
        if name not in self.metrics and len(self.metrics) >= _METRICS:
            raise InvalidInput(f"a job keeps at most {_METRICS} metrics", field="name")
        value += self.metrics.get(name, 0) if add else 0
        encode_json(
            value, f"metric {name}"
        )  # not when all is written, where it would stop the rest
        self.metrics[name] = value

    def to_data(self) -> dict[str, Any]:
        """What is kept; nothing where there is nothing."""
        facts: dict[str, Any] = {
            "warnings": self.warnings,
            "errors": self.errors,
            "counts": {kind: count for kind, count in self.counts.items() if count},
            "metrics": self.metrics,
        }
        return {name: value for name, value in facts.items() if value}

    def _add(self, kind: str, kept: list[str], said: str | BaseException) -> str:
        text = clean_error(said, kind)[:_LONGEST]
        kept.append(text)
        del kept[:-_KEPT]
        self.counts[kind] += 1
        return text


def _items(stored: object) -> list[object]:
    return cast("list[object]", stored) if isinstance(stored, list) else []


def _facts(stored: object) -> dict[str, float]:
    """The numbers of what may be an object of anything."""
    if not isinstance(stored, dict):
        return {}
    facts = cast("dict[str, object]", stored)
    return {
        name: number
        for name, number in facts.items()
        if isinstance(number, int | float) and not isinstance(number, bool)
    }
