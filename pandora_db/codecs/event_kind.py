"""Event codes ↔ `EventKind`."""

from __future__ import annotations

from pandora_db.models.event import EventKind

__all__ = ["EventKind", "decode_event_kind"]


def decode_event_kind(code: int) -> EventKind:
    """The event kind of a stored code; raises `UnknownCode`."""
    return EventKind(code)
