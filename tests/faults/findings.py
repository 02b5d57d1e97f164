"""What a checker found: by invariant, how much was compared and what is wrong."""

from __future__ import annotations

from collections import Counter
from typing import Any

INVARIANTS = {
    "I1": "every acknowledged operation is present",
    "I2": "nothing is present without an intent, and nothing twice",
    "I3": "rows never disappear; the events of a job are numbered 1 to n without gaps",
    "I4": "a history is a path of the stage graph; nothing leaves a terminal stage",
    "I5": "accepted writes carry the token that counts; a lease is not broken before it ran out",
    "I6": "no job is stuck longer than lease + sweep + 1 s",
    "I7": "a job is executed once, and once more for each fault that met it",
    "I8": "a checkpoint is one that was written, no older than the last acknowledged",
    "I9": "the engine finds its own files sound",
    "I10": "only documented exceptions; no call outlives its deadline by more than 1 s",
    "I11": "nothing leaks: transactions, connections, tasks, threads, files, the WAL",
}
_MOST_NOTES = 5


class Findings:
    """Figures by invariant; one with nothing compared does not hold, it was not looked at."""

    def __init__(self) -> None:
        self.checked: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.figures: Counter[str] = Counter()
        self.measured: dict[str, Any] = {}
        self._notes: list[str] = []

    def expect(self, invariant: str, what: str, holds: object, detail: object) -> None:
        """Count one comparison, and what is wrong when it does not hold."""
        self.checked[invariant] += 1
        if not holds:
            name = f"{invariant}: {what}"
            self.wrong[name] += 1
            if self.wrong[name] <= _MOST_NOTES:
                self._notes.append(f"{name}: {detail}")

    @property
    def broken(self) -> list[str]:
        """The invariants that do not hold, or were not looked at."""
        wrong = {name.split(":")[0] for name in self.wrong}
        return [name for name in INVARIANTS if name in wrong or not self.checked[name]]

    def report(self) -> dict[str, Any]:
        """For the JSON of a long form."""
        return {
            "broken": self.broken,
            "checked": {f"{name}: {what}": self.checked[name] for name, what in INVARIANTS.items()},
            "wrong": dict(self.wrong),
            "notes": self._notes,
            "figures": dict(sorted(self.figures.items())),
            **self.measured,
        }
