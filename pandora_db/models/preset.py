"""Presets: how a job is encoded, stored as the pair (`preset`, `preset_concat`)."""

from __future__ import annotations

from enum import Enum, IntEnum

from pandora_db.errors import UnknownCode


class Concat(IntEnum):
    """How a concat job treats subtitles; stored in `jobs.preset_concat`."""

    DEFAULT = 0
    SOME_SUBS = 1

    @classmethod
    def _missing_(cls, value: object) -> Concat:
        raise UnknownCode("preset_concat", value, "0 DEFAULT, 1 SOME_SUBS")


class Preset(Enum):
    """The encoding presets (seed: libpndb). The value is the stored pair (preset, preset_concat).

    `Preset((9, None))` raises `UnknownCode`.
    """

    _value_: tuple[int, int | None]

    PSEUDO_LOSSLESS = (0, None)
    STANDARD = (1, None)
    GPU = (2, None)
    CONCAT_DEFAULT = (3, 0)
    CONCAT_SOME_SUBS = (3, 1)

    @classmethod
    def concat(cls, concat: Concat) -> Preset:
        """The concat preset of that kind: `Preset.concat(Concat.SOME_SUBS)`."""
        return cls((3, Concat(concat).value))

    @classmethod
    def _missing_(cls, value: object) -> Preset:
        raise UnknownCode("preset", value, KNOWN_PRESETS)


KNOWN_PRESETS = ", ".join(
    f"{code} {preset.name}" if concat is None else f"{code}/{concat} {preset.name}"
    for preset in Preset
    for code, concat in (preset.value,)
)
