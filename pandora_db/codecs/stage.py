"""Stages that callers give, and the moves that a plain `update_stage` may make."""

from __future__ import annotations

from functools import cache

from pandora_db.errors import UnknownCode
from pandora_db.models.checks import refuse
from pandora_db.models.stage import (
    KNOWN_STAGES,
    STAGES,
    Stage,
    StageInfo,
    StageKind,
    stage_info,
)

__all__ = [
    "STAGES",
    "Stage",
    "StageInfo",
    "StageKind",
    "check_stage",
    "live_range",
    "stage_info",
]


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


@cache
def live_range(stage: Stage) -> tuple[int, int]:
    """Lowest and highest code from which a plain `update_stage` may reach `stage`.

    Jumping forward is allowed and so is staying; going back, leaving a terminal stage and changing
    the pipeline are not.
    """
    pipeline = stage_info(stage).pipeline
    live = [
        info.code
        for info in STAGES.values()
        if info.pipeline == pipeline and not info.kind.terminal
    ]
    return min(live), max(live) if stage.terminal else stage.value
