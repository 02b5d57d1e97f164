"""JSON values ↔ the text that is stored (JSONB on PostgreSQL, checked TEXT on SQLite)."""

from __future__ import annotations

from pandora_db.models.checks import Json, check_json, decode_json, dump_json

__all__ = ["Json", "decode_json", "encode_json"]


def encode_json(value: object, field: str) -> str:
    """`value` as compact JSON text, which both dialects read back equal.

    Raises:
        InvalidInput: `check_json` refuses it, or it takes more than 1 MiB.
    """
    return dump_json(check_json(value, field), field)
