"""Which failures of the database pass, and how soon a write that met one is tried again."""

from __future__ import annotations

from pandora_db.errors import PASSING, OutcomeUnknown, PandoraDbError, StorageDamaged, StorageError

FIRST_PAUSE = 0.1
"""Seconds before the second try; each pause is twice as long as the one before."""

_LONGEST = 5.0


def passes(error: PandoraDbError) -> bool:
    """Whether a write that met `error` may be done later: a disk may get room again."""
    if isinstance(error, StorageDamaged):
        return False
    return isinstance(error, (*PASSING, OutcomeUnknown, StorageError))


def next_pause(pause: float) -> float:
    """The one after `pause`."""
    return min(2 * pause, _LONGEST)
