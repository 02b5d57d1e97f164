"""Hold codes ↔ `Hold`."""

from __future__ import annotations

from pandora_db.models.status import Hold

__all__ = ["Hold", "decode_hold"]


def decode_hold(code: int) -> Hold:
    """The hold of a stored code; raises `UnknownCode`."""
    return Hold(code)
