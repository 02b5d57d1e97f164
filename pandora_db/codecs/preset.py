"""The stored pair (`preset`, `preset_concat`) ↔ `Preset`."""

from __future__ import annotations

from pandora_db.models.preset import Concat, Preset

__all__ = ["Concat", "Preset", "decode_preset", "encode_preset"]


def encode_preset(preset: Preset) -> tuple[int, int | None]:
    """The pair (preset, preset_concat) that stands for `preset`."""
    pair: tuple[int, int | None] = preset.value
    return pair


def decode_preset(preset: int, preset_concat: int | None) -> Preset:
    """The preset of a stored pair.

    Raises:
        UnknownCode: no preset has that pair.
    """
    return Preset((preset, preset_concat))
