"""What `verify_schema()` and `plan_schema()` answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pandora_db.models.checks import counted


@dataclass(frozen=True, slots=True)
class SchemaDifference:
    """One thing in the database that is not as this version expects it.

    Attributes:
        kind: table, column, index, constraint, trigger, …
        name: its name; `table.column` for a column.
        expected: its definition as shipped; None when it should not be there.
        found: its definition in the database; None when it is missing.
    """

    kind: str
    name: str
    expected: str | None = None
    found: str | None = None

    def __str__(self) -> str:
        if self.found is None:
            wanted = f" (expected: {self.expected})" if self.expected else ""
            return f"{self.kind} {self.name} is missing{wanted}"
        if self.expected is None:
            return f"{self.kind} {self.name} is not expected (found: {self.found})"
        return f"{self.kind} {self.name} differs: expected {self.expected}, found {self.found}"


@dataclass(frozen=True, slots=True)
class SchemaStep:
    """One migration that would be applied.

    Attributes:
        version: its number.
        name: its name.
        statements: the SQL, in order.
        lock: what is locked meanwhile, in words.
        estimated_lock_seconds: for how long, by the size of the tables.
    """

    version: int
    name: str
    statements: tuple[str, ...]
    lock: str
    estimated_lock_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.version:04d} {self.name}: {counted(len(self.statements), 'statement')}, "
            f"locks {self.lock} for about {self.estimated_lock_seconds:.3g} s"
        )


@dataclass(frozen=True, slots=True)
class SchemaPlan:
    """What `init_schema()` would do now; `str(plan)` says it to people."""

    dialect: Literal["sqlite", "postgres"]
    current: int
    """The schema version found; 0 for none."""
    target: int
    """The schema version that this pandora_db ships."""
    steps: tuple[SchemaStep, ...] = ()

    @property
    def pending(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.steps)

    def __str__(self) -> str:
        if not self.steps:
            return f"{self.dialect}: schema {self.current} is current, nothing to do"
        lines = [f"{self.dialect}: schema {self.current} → {self.target}"]
        for step in self.steps:
            lines.append(f"  {step}")
            lines += [f"    {statement}" for statement in step.statements]
        return "\n".join(lines)
