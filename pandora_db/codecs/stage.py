"""Stage codes ↔ `Stage`, and the moves that a plain `update_stage` may make."""

from __future__ import annotations

from pandora_db.errors import UnknownCode
from pandora_db.models.checks import refuse
from pandora_db.models.stage import KNOWN_STAGES, STAGES, Stage, StageInfo, StageKind

__all__ = [
    "STAGES",
    "Stage",
    "StageInfo",
    "StageKind",
    "check_stage",
    "decode_stage",
    "live_range",
    "stage_info",
]


def decode_stage(code: int) -> Stage:
    """The stage of a stored code.

    Raises:
        UnknownCode: no stage has that code.
    """
    return Stage(code)


def check_stage(value: object, field: str = "stage") -> Stage:
    """The stage that a caller gave, as a `Stage` or as the int that is one.

    Raises:
        UnknownCode: an int that no stage has.
        InvalidInput: anything else, bools and text included.
    """
    if type(value) is Stage:
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(field, value, f"a Stage or its code: {KNOWN_STAGES}")
    try:
        return Stage(value)
    except UnknownCode as error:
        raise UnknownCode(field, int(value), KNOWN_STAGES) from error


def stage_info(code: int) -> StageInfo:
    """Pipeline, name and kind of a code.

    Raises:
        UnknownCode: no stage has that code.
    """
    info = STAGES.get(code)
    if info is None:
        raise UnknownCode("stage", code, KNOWN_STAGES)
    return info


def live_range(stage: Stage) -> tuple[int, int]:
    """Lowest and highest code from which a plain `update_stage` may reach `stage`.

    Jumping forward is allowed and so is staying; going back and leaving a terminal stage are not.
    """
    last = max(code for code, info in STAGES.items() if not info.kind.terminal)
    return (0, last if stage.terminal else stage.value)
