"""What `JobDb.health()` answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class PoolUse(BaseModel):
    """How busy the connections are."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    size: int
    """Open connections."""
    idle: int
    max: int
    waiting: int = 0
    """Callers that wait for a connection or a writer's turn."""


class Health(BaseModel):
    """The state of a database and of the handle on it. Sizes in bytes, times in seconds.

    None stands for what the dialect has not, or what could not be learned.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    dialect: Literal["sqlite", "postgres"]
    server_version: str
    driver_version: str
    schema_version: int | None
    """The schema that was found; None before `init_schema()`."""
    known_schema_version: int
    durable: bool
    """Whether an acknowledged write survives a power cut."""
    durability: str
    """The setting behind `durable`, in words."""
    journal_mode: str | None = None
    synchronous: str | None = None
    size_bytes: int | None = None
    wal_bytes: int | None = None
    oldest_transaction_seconds: float | None = None
    pool: PoolUse
    warnings: list[str] = []
    """Known-bad engine versions, weakened durability and the like, for people."""
    integrity: list[str] | None = None
    """Damage found by the deep check: [] when sound, None when it was not asked for."""

    @property
    def ok(self) -> bool:
        """Whether the schema is current and nothing is amiss."""
        current = self.schema_version == self.known_schema_version
        return current and self.durable and not self.warnings and not self.integrity

    def __str__(self) -> str:
        version = "none" if self.schema_version is None else str(self.schema_version)
        schema = f"schema {version} of {self.known_schema_version}"
        pool = f"{self.pool.size} of {self.pool.max} connections open"
        lines = [f"{self.dialect} {self.server_version}, {schema}, {self.durability}, {pool}"]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"damage: {damage}" for damage in self.integrity or ()]
        return "\n".join(lines)
