"""JSON values ↔ the text that is stored (JSONB on PostgreSQL, checked TEXT on SQLite)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from pandora_db.models.checks import (
    EXPECTED_CONFIG,
    Json,
    check_json,
    decode_json,
    dump_json,
    refuse,
)

__all__ = ["Json", "decode_json", "encode_config", "encode_json", "encode_tags"]


def encode_json(value: object, field: str) -> str:
    """`value` as compact JSON text, which both dialects read back equal.

    Raises:
        InvalidInput: `check_json` refuses it, or it takes more than 1 MiB.
    """
    return dump_json(check_json(value, field), field)


def encode_tags(tags: Sequence[str]) -> str:
    """Checked tags as JSON text."""
    return dump_json(list(tags), "tags")


def encode_config(value: object, field: str = "config") -> str:
    """`encode_json` for the settings of a job, which are a dict; raises `InvalidInput`."""
    if not isinstance(value, dict):
        refuse(field, value, EXPECTED_CONFIG)
    return encode_json(cast("object", value), field)
