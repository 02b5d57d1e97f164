"""asyncpg's errors as ours."""

from __future__ import annotations

import re

import asyncpg

from pandora_db.errors import (
    ConnectionFailed,
    Duplicate,
    ForeignKeyViolation,
    InvalidInput,
    LockTimeout,
    MissingPrivilege,
    PandoraDbError,
    SchemaMissing,
    StatementTimeout,
    StorageDamaged,
    StorageFull,
    StorageReadOnly,
    TransactionAborted,
)

_KEY = re.compile(r"Key \((\w+)\)=\((.*)\) already exists")

_LOG_NUMBERS = "job_logs_pkey"

# The server may have done it or not: the connection went before the answer came.
LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)
_AGAIN = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidCachedStatementError,
)


def is_passing(error: BaseException) -> bool:
    """Whether nothing was done, and doing it again may well succeed.

    The same operation in two processes at once is such a case: the second try finds it done. So are
    two that number their log lines alike, where the server's default is REPEATABLE READ.
    """
    if isinstance(error, asyncpg.UniqueViolationError):
        return error.constraint_name in ("idx_job_events_operation", _LOG_NUMBERS)
    return isinstance(error, _AGAIN)


def translate(  # noqa: C901, PLR0911, PLR0912 - one line per fact
    error: BaseException, target: str
) -> PandoraDbError:
    """The error of ours that says what `error` says; the caller raises it `from error`."""
    match error:
        case PandoraDbError():
            return error
        case asyncpg.UniqueViolationError() if error.constraint_name != _LOG_NUMBERS:
            found = _KEY.search(error.detail or "")
            return (
                Duplicate(found[1], found[2])
                if found
                else InvalidInput(f"refused by the database: {error}")
            )
        case asyncpg.ForeignKeyViolationError():
            return ForeignKeyViolation(str(error), constraint=error.constraint_name)
        case (
            asyncpg.UndefinedTableError()
            | asyncpg.UndefinedColumnError()
            | asyncpg.InvalidSchemaNameError()
        ):
            return SchemaMissing(f"{error} in {target}")
        case asyncpg.QueryCanceledError():
            return StatementTimeout(
                f"the statement ran longer than statement_timeout allows; it was stopped ({target})"
            )
        case asyncpg.LockNotAvailableError():
            return LockTimeout(
                f"another transaction held a row or table longer than lock_timeout ({target}); "
                "look for a transaction that stays open"
            )
        case asyncpg.DiskFullError():
            return StorageFull(
                f"the server has no room left ({target}): nothing of this call was stored"
            )
        case asyncpg.DataCorruptedError() | asyncpg.IndexCorruptedError():
            return StorageDamaged(f"the server reports damage ({target}): {error}")
        case asyncpg.ReadOnlySQLTransactionError():
            return StorageReadOnly(
                f"the server accepts no writes ({target}): it is a standby or read-only; "
                "target_session_attrs=read-write finds the one that does"
            )
        case (
            asyncpg.InFailedSQLTransactionError()
            | asyncpg.DeadlockDetectedError()
            | asyncpg.SerializationError()
            | asyncpg.UniqueViolationError()
        ):
            return TransactionAborted(
                f"the server gave the transaction up ({target}): {error}; run it again"
            )
        case asyncpg.InsufficientPrivilegeError():
            return MissingPrivilege(
                f"the role lacks a right ({target}): {error}; have it granted by the owner"
            )
        case asyncpg.TooManyConnectionsError():
            return ConnectionFailed(
                "the server takes no more connections: lower pool_max or raise its limit",
                target=target,
            )
        case asyncpg.DataError() | asyncpg.IntegrityConstraintViolationError():
            return InvalidInput(f"refused by the database: {error}")
        case _ if isinstance(error, LOST):
            return ConnectionFailed(
                f"the connection was lost: {type(error).__name__}", target=target
            )
        case asyncpg.PostgresError():
            return PandoraDbError(f"PostgreSQL refused the statement ({target}): {error}")
        case _:
            return PandoraDbError(f"{type(error).__name__}: {error}")
