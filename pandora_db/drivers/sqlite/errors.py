"""sqlite3's errors as ours."""

from __future__ import annotations

import re
import sqlite3

from pandora_db.errors import (
    ConnectionFailed,
    Duplicate,
    ForeignKeyViolation,
    InvalidInput,
    LockTimeout,
    PandoraDbError,
    SchemaMissing,
    StatementTimeout,
    StorageDamaged,
    StorageError,
    StorageFull,
    StorageReadOnly,
    TransactionAborted,
)

_UNIQUE = re.compile(r"UNIQUE constraint failed: \w+\.(\w+)")


def translate(  # noqa: C901, PLR0911, PLR0912 - one line per fact
    error: BaseException, path: str
) -> PandoraDbError:
    """The error of ours that says what `error` says; the caller raises it `from error`."""
    if not isinstance(error, sqlite3.Error):
        # What no column can hold: a lone surrogate, an int of more than 64 bits, an odd object.
        return InvalidInput(f"SQLite takes no such value: {type(error).__name__}")
    code = getattr(error, "sqlite_errorcode", None)
    text = str(error)
    if code is None and "binding parameter" in text:
        return InvalidInput(f"SQLite takes no such value: {text}")
    primary = (code or 0) & 0xFF
    if code == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
        return ForeignKeyViolation(f"the engine refused a reference: {text}")
    if primary == sqlite3.SQLITE_CONSTRAINT:
        found = _UNIQUE.search(text)
        return (
            Duplicate(found[1], "(see cause)")
            if found
            else InvalidInput(f"refused by the database: {text}")
        )
    if primary == sqlite3.SQLITE_INTERRUPT:
        return StatementTimeout(
            "the statement ran longer than statement_timeout allows; it was stopped"
        )
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LockTimeout(
            f"another connection kept {path} locked longer than lock_timeout: {text}; "
            "look for a transaction that stays open"
        )
    if primary == sqlite3.SQLITE_FULL:
        return StorageFull(
            f"no room on the disk of {path}: nothing of this call was stored; make room, repeat it"
        )
    if primary in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StorageDamaged(f"{path} is damaged or no SQLite database: {text}; restore a backup")
    if primary == sqlite3.SQLITE_READONLY:
        return StorageReadOnly(f"{path} cannot be written: {text}")
    if primary == sqlite3.SQLITE_CANTOPEN:
        return ConnectionFailed(f"the database file cannot be opened: {text}", target=path)
    if primary == sqlite3.SQLITE_IOERR:
        return StorageError(f"reading or writing {path} failed: {text}")
    if "no transaction is active" in text:
        return TransactionAborted(f"SQLite gave the transaction on {path} up: run it again")
    if "no such table" in text or "no such column" in text:
        return SchemaMissing(f"{text} in {path}")
    return PandoraDbError(f"SQLite refused the statement: {text}")
