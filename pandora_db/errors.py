"""Every error that `pandora_db` raises, in one tree.

    PandoraDbError
    ├── InvalidInput (ValueError)        a value was refused before any SQL ran
    │   └── UnknownCode                  a stored or given number that no codec knows
    ├── NotFound (LookupError)           no job has that id
    ├── Duplicate                        that id or external id is taken
    ├── ForeignKeyViolation              the row that this one refers to is missing
    ├── InvalidTransition                the stage rules forbid that move
    ├── QueueFull                        as many jobs are active as the caller allows
    ├── LeaseLost                        the claim no longer counts: nothing was written
    ├── WriteRefused                     something of another program's kept the row as it was
    ├── OutcomeUnknown                   the answer was lost, and not found again in time
    ├── CheckpointCorrupt                stored bytes are not the checkpoint they should be
    ├── JobError                         what a handler and its worker tell each other
    │   ├── ExecutionFailed              the work went wrong: the attempt has failed
    │   ├── JobCancelled                 a job whose result was awaited was cancelled
    │   ├── Interrupted                  stop: a pause, a cancellation or a shutdown was asked for
    │   └── Serialization                parameters, state or output of a job cannot be kept or read
    ├── SchemaError
    │   ├── SchemaMissing                the tables are not there: call init_schema()
    │   ├── SchemaTooNew                 a newer pandora_db has upgraded this database
    │   ├── SchemaChanged                an applied migration differs from the shipped one
    │   └── ForeignSchema                a table of ours is somebody else's: left untouched
    ├── ConnectionFailed                 no connection, or it was lost; nothing was applied
    ├── PoolTimeout                      no connection became free in time
    ├── StatementTimeout                 the statement ran longer than it may; it was stopped
    ├── LockTimeout                      another transaction held the row or file too long
    ├── MissingPrivilege                 the role lacks a right on the server
    ├── StorageError
    │   ├── StorageFull                  the disk is full; what was acknowledged is intact
    │   ├── StorageDamaged               the file is not a sound SQLite database
    │   └── StorageReadOnly              the file or the server accepts no writes
    ├── TransactionError
    │   ├── InsideTransaction            `db` was called inside its own open transaction
    │   └── TransactionAborted           the engine gave the transaction up: run it again
    └── HandleClosed                     the handle is not open
        └── HandleForked                 the handle was opened before a fork()

Each error keeps its facts as attributes. No driver's own error reaches a caller except as
`__cause__`, and no message ever holds a password.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


def _rebuild(kind: type[PandoraDbError], message: str, facts: dict[str, object]) -> PandoraDbError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(facts)
    return error


class PandoraDbError(Exception):
    """The root of every error that this library raises on purpose."""

    def __reduce__(
        self,
    ) -> tuple[Callable[..., PandoraDbError], tuple[type[PandoraDbError], str, dict[str, object]]]:
        # Facts are keyword-only, which the default protocol of exceptions cannot replay.
        return _rebuild, (type(self), str(self), dict(self.__dict__))


class InvalidInput(PandoraDbError, ValueError):
    """A value was refused; no SQL ran and nothing changed."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class UnknownCode(InvalidInput):
    """A number that the codec of `field` does not know, such as stage 42."""

    def __init__(self, field: str, code: object, known: str) -> None:
        super().__init__(f"{field} {code!r} is unknown; known are {known}", field=field)
        self.code = code


class NotFound(PandoraDbError, LookupError):
    """No job has the id that was asked for."""

    def __init__(self, job_id: int) -> None:
        super().__init__(f"there is no job {job_id}")
        self.job_id = job_id


class Duplicate(PandoraDbError):
    """A job with this `field` (`job_id`, `external_id`) is already stored."""

    def __init__(self, field: str, value: object) -> None:
        super().__init__(
            f"a job with {field} {value!r} exists already; "
            "leave job_id out to have one generated, or give an idempotency_key to get it back"
        )
        self.field = field
        self.value = value


class ForeignKeyViolation(PandoraDbError):
    """The row refers to a row that does not exist."""

    def __init__(self, message: str, *, constraint: str | None = None) -> None:
        super().__init__(message)
        self.constraint = constraint


class InvalidTransition(PandoraDbError):
    """The stage rules forbid the move; the job is as it was."""

    def __init__(
        self, job_id: int, current: object, wanted: object, advice: str, *, verb: str = "become"
    ) -> None:
        super().__init__(f"job {job_id} is {current} and cannot {verb} {wanted}: {advice}")
        self.job_id = job_id
        self.current = current
        self.wanted = wanted


class QueueFull(PandoraDbError):
    """`limit` jobs or more are active already; the job was not inserted."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the queue is full: {limit} or more jobs are active; try again later")
        self.limit = limit


class LeaseLost(PandoraDbError):
    """The claim does not count any more, and nothing was written under it.

    Stop the work: the job was finished, given back, recovered for another worker, or taken out of
    this one's hands by an override such as `requeue_job`.
    """

    def __init__(self, job_id: int, token: int, reason: str) -> None:
        super().__init__(
            f"the claim on job {job_id} no longer counts: {reason}; stop working on it"
        )
        self.job_id = job_id
        self.token = token
        self.reason = reason


class WriteRefused(PandoraDbError):
    """The engine took the statement and changed nothing, for no reason of ours."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"{what}, and pandora_db's own rules do not say why: look for a unique index, trigger, "
            "rule or row policy on `jobs` that another program made"
        )


class OutcomeUnknown(PandoraDbError):
    """The connection was lost during the call, and the outcome was not found in time.

    Repeat the call with `operation_id=error.operation_id`: it is answered with the first result
    if there was one, and done now if there was none.
    """

    def __init__(self, operation_id: UUID | None, what: str) -> None:
        repeat = (
            f"; repeat it with operation_id={operation_id} to learn or complete it"
            if operation_id
            else ""
        )
        super().__init__(f"the connection was lost and the outcome of {what} is unknown{repeat}")
        self.operation_id = operation_id


class CheckpointCorrupt(PandoraDbError):
    """A stored checkpoint is damaged, of another job or stage, too large, or not readable here.

    Nothing of it was used; `reason` says in words what is wrong. `damaged` says that the stored
    bytes are not those that were written; otherwise they are sound, and this program cannot read
    them: a class that is not imported, a newer version, a package that is missing.
    """

    def __init__(
        self,
        reason: str,
        *,
        job_id: int | None = None,
        stage: int | None = None,
        damaged: bool = True,
    ) -> None:
        where = f" of job {job_id}" if job_id is not None else ""
        where += f" at stage {stage}" if stage is not None else ""
        super().__init__(f"the checkpoint{where} cannot be read: {reason}")
        self.reason = reason
        self.job_id = job_id
        self.stage = stage
        self.damaged = damaged


class JobError(PandoraDbError):
    """What a handler and its worker tell each other."""


class ExecutionFailed(JobError):
    """The work went wrong. Raised by a handler, it fails the attempt like any other error.

    Attributes:
        code: the exit code of the program that failed; negative for a signal; None for none.
    """

    def __init__(self, message: str, *, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class JobCancelled(JobError):
    """A job whose result was awaited was cancelled; whoever awaits it goes on.

    Attributes:
        job_id: the job.
        reason: why, as its handler said with `Cancelled(reason)`; None when it did not say.
    """

    def __init__(self, job_id: int, reason: str | None = None) -> None:
        super().__init__(f"job {job_id} was cancelled" + (f": {reason}" if reason else ""))
        self.job_id = job_id
        self.reason = reason


class Interrupted(JobError):
    """The job shall stop here: a `"pause"`, a `"cancel"` or a `"shutdown"` was asked for.

    Raised by `ctx.check_interrupt()`. A handler lets it pass: its worker gives the job back.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"the job was interrupted: {reason} was asked for")
        self.reason = reason


class Serialization(JobError):
    """Parameters, state or output of a job cannot be kept, or not be read by this program."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class SchemaError(PandoraDbError):
    """The database does not hold the tables that this version works with."""


class SchemaMissing(SchemaError):
    """The tables are missing or older than this version needs."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"{missing}; call init_schema() first")
        self.missing = missing


class SchemaTooNew(SchemaError):
    """A newer `pandora_db` has upgraded this database."""

    def __init__(self, found: int, known: int) -> None:
        super().__init__(
            f"the database has schema version {found}, this pandora_db knows {known}: "
            "upgrade pandora_db"
        )
        self.found = found
        self.known = known


class SchemaChanged(SchemaError):
    """A migration that was applied differs from the file that is shipped."""

    def __init__(self, migration: str) -> None:
        super().__init__(
            f"migration {migration} was applied with another content than this pandora_db ships: "
            "the installation or the database was edited; nothing was changed"
        )
        self.migration = migration


class ForeignSchema(SchemaError):
    """A table or stage that we need belongs to something else; it was left untouched."""

    def __init__(self, message: str, *, differences: Sequence[str] = ()) -> None:
        listed = "".join(f"\n  - {difference}" for difference in differences)
        super().__init__(message + listed)
        self.differences = tuple(differences)


class ConnectionFailed(PandoraDbError):
    """There is no connection, or it was lost before the call could be applied."""

    def __init__(self, message: str, *, target: str) -> None:
        super().__init__(f"{message} ({target})")
        self.target = target


class PoolTimeout(PandoraDbError):
    """No connection or writer's turn became free within the acquire time-out."""


class StatementTimeout(PandoraDbError):
    """The statement ran longer than it may, and was stopped; nothing of it was applied."""


class LockTimeout(PandoraDbError):
    """Another transaction held the row, table or file longer than the lock time-out."""


class MissingPrivilege(PandoraDbError):
    """The role lacks a right on the server; its owner can grant it."""


class StorageError(PandoraDbError):
    """The disk or file under the database refuses."""


class StorageFull(StorageError):
    """The disk is full. Acknowledged writes are intact, reads go on, writes resume with room."""


class StorageDamaged(StorageError):
    """The file is damaged, empty or not a SQLite database; it was left as it is."""


class StorageReadOnly(StorageError):
    """The file, its folder or the server accepts no writes."""


class TransactionError(PandoraDbError):
    """A transaction cannot go on."""


class InsideTransaction(TransactionError):
    """`db` was called inside its own open transaction, where only `tx` may be used."""

    def __init__(self, query: str) -> None:
        super().__init__(
            f"the handle was used (for {query}) inside its own open transaction, which would "
            "escape it or wait for itself: call the same method on the transaction's `tx`"
        )
        self.query = query


class TransactionAborted(TransactionError):
    """The engine gave the transaction up (deadlock, conflict, time-out): run it again."""


PASSING = (ConnectionFailed, PoolTimeout, StatementTimeout, LockTimeout, TransactionAborted)
"""Failures of the database that pass by themselves: nothing was done, and may be tried again."""


class HandleClosed(PandoraDbError):
    """The handle was closed, or never opened."""


class HandleForked(HandleClosed):
    """The handle was opened by another process, before a fork()."""

    def __init__(self) -> None:
        super().__init__(
            "this handle was opened before a fork(); its connections belong to the parent: "
            "open a new JobDb in the child"
        )
