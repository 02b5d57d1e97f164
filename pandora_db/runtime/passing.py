"""Failures of the database that pass, and how soon a write that met one is tried again."""

from __future__ import annotations

from pandora_db.errors import (
    ConnectionFailed,
    LockTimeout,
    OutcomeUnknown,
    PoolTimeout,
    StatementTimeout,
    StorageError,
    TransactionAborted,
)

PASSING = (
    ConnectionFailed, LockTimeout, OutcomeUnknown, PoolTimeout, StatementTimeout, StorageError,
    TransactionAborted,
)  # fmt: skip
FIRST_PAUSE = 0.1
"""Seconds before the second try; each pause is twice as long as the one before."""

_LONGEST = 5.0


def next_pause(pause: float) -> float:
    """The one after `pause`."""
    return min(2 * pause, _LONGEST)
