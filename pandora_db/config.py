"""Settings of a handle, and their defaults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pandora_db.errors import InvalidInput
from pandora_db.models.base import InputModel
from pandora_db.models.limits import DEFAULT_ATTEMPTS, MAX_ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Mapping

_YEAR = 31_536_000
_Seconds = Annotated[float, Field(strict=True, gt=0, le=_YEAR, allow_inf_nan=False)]
_SECONDS = f"a number of seconds above 0, at most {_YEAR} (a year)"


def _count(most: int) -> str:
    return f"an int from 1 to {most}"


class Settings(InputModel):
    """How a handle connects and how long it waits (times in seconds).

    Refuses unknown names and values with `InvalidInput`, whose `.field` names the setting.

    Attributes:
        pool_min: connections that are kept open (PostgreSQL).
        pool_max: connections that may be open at once (PostgreSQL).
        connection_life: a connection is replaced when it is that old.
        connection_idle: a spare connection is closed after that long without use.
        connect_timeout: for one attempt to connect.
        acquire_timeout: for a free connection or the writer's turn; then `PoolTimeout`.
        statement_timeout: for one statement; then `StatementTimeout`.
        lock_timeout: for a row, table or file that another transaction holds; then `LockTimeout`.
        close_timeout: for `close()`; what still runs then is cut off.
        wait_for_server: how long the first connect keeps trying while no server answers; 0 tries
            once.
        outcome_timeout: how long a mutating call looks for its outcome after a lost connection;
            then `OutcomeUnknown`.
        lease: how long a claim counts without a sign of life from its worker.
        heartbeat: how often the leases of this handle's claims are renewed; shorter than `lease`.
        sweep: how often this handle looks for jobs whose lease ran out; None never looks.
        stall: leases are no longer renewed when the event loop has not turned for that long.
        deadline: how long a claim is renewed altogether; None for as long as it lives.
        max_attempts: how often a job that says nothing else is tried at a stage, as far as this
            handle ends its attempts or recovers it; give all handles of a database the same.
        max_pending: calls that may wait for a group commit.
        max_batch: calls that one group commit takes.
        synchronous: SQLite only. "full" keeps every acknowledged write through a power cut;
            "normal" is faster and may lose the last acknowledged writes in one.
        make_folders: SQLite only. Make the folders above a new file; otherwise a missing one is
            refused, since a path that was mistyped would begin an empty database.
        schema: PostgreSQL schema of the tables, a plain lower-case name.
        pgbouncer: the server is a pgbouncer in transaction mode: no prepared statements, no
            start-up settings.
        notify: tell other processes of commits by NOTIFY, and listen while somebody watches or
            waits for jobs (PostgreSQL); False polls only, as does a handle behind a pgbouncer.
        application_name: how the server lists the connections (PostgreSQL).
    """

    pool_min: Annotated[int, Field(strict=True, ge=1, le=1000)] = 1
    pool_max: Annotated[int, Field(strict=True, ge=1, le=1000)] = 10
    connection_life: _Seconds = 300.0
    connection_idle: _Seconds = 300.0
    connect_timeout: _Seconds = 10.0
    acquire_timeout: _Seconds = 10.0
    statement_timeout: _Seconds = 30.0
    lock_timeout: _Seconds = 5.0
    close_timeout: _Seconds = 10.0
    wait_for_server: Annotated[float, Field(strict=True, ge=0, le=_YEAR, allow_inf_nan=False)] = 0.0
    outcome_timeout: _Seconds = 30.0
    lease: _Seconds = 30.0
    heartbeat: _Seconds = 10.0
    sweep: _Seconds | None = 10.0
    stall: _Seconds = 60.0
    deadline: _Seconds | None = None
    max_attempts: Annotated[int, Field(strict=True, ge=1, le=MAX_ATTEMPTS)] = DEFAULT_ATTEMPTS
    max_pending: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 10_000
    max_batch: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 500
    synchronous: Literal["full", "normal"] = "full"
    make_folders: Annotated[bool, Field(strict=True)] = False
    schema_name: Annotated[str, Field(strict=True, pattern=r"^[a-z_][a-z0-9_]{0,62}$")] = Field(
        default="public", alias="schema"
    )
    pgbouncer: Annotated[bool, Field(strict=True)] = False
    notify: Annotated[bool, Field(strict=True)] = True
    application_name: Annotated[
        str, Field(strict=True, min_length=1, max_length=63, pattern=r"^[\x20-\x7e]+$")
    ] = "pandora_db"

    expected: ClassVar[Mapping[str, str]] = {
        "pool_min": _count(1000),
        "pool_max": _count(1000),
        "connection_life": _SECONDS,
        "connection_idle": _SECONDS,
        "connect_timeout": _SECONDS,
        "acquire_timeout": _SECONDS,
        "statement_timeout": _SECONDS,
        "lock_timeout": _SECONDS,
        "close_timeout": _SECONDS,
        "wait_for_server": f"a number of seconds from 0 to {_YEAR} (a year)",
        "outcome_timeout": _SECONDS,
        "lease": _SECONDS,
        "heartbeat": _SECONDS,
        "sweep": _SECONDS + ", or None",
        "stall": _SECONDS,
        "deadline": _SECONDS + ", or None",
        "max_attempts": _count(MAX_ATTEMPTS),
        "max_pending": _count(1_000_000),
        "max_batch": _count(10_000),
        "synchronous": "'full' or 'normal'",
        "make_folders": "True or False",
        "schema": "a name of a-z, 0-9 and _, 1 to 63 characters, that starts with no digit",
        "pgbouncer": "True or False",
        "notify": "True or False",
        "application_name": "1 to 63 printable ASCII characters",
    }

    # pydantic's own deprecated classmethod of that name would answer otherwise.
    @property
    def schema(self) -> str:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        """The PostgreSQL schema of the tables."""
        return self.schema_name

    @model_validator(mode="after")
    def _lease_bounds(self) -> Self:
        if self.lease <= self.heartbeat:
            raise InvalidInput(
                f"lease is {self.lease:g} s; expected more than heartbeat, which is "
                f"{self.heartbeat:g} s: a lease has to outlast the pause between its renewals",
                field="lease",
            )
        return self

    @model_validator(mode="after")
    def _pool_bounds(self) -> Self:
        if self.pool_min > self.pool_max:
            raise InvalidInput(
                f"pool_min is {self.pool_min}; expected at most pool_max, which is {self.pool_max}",
                field="pool_min",
            )
        return self
