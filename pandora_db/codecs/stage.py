"""Stages that callers give, and the moves that a plain `update_stage` may make."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from pandora_db.errors import ForeignSchema, InvalidInput, UnknownCode
from pandora_db.models.checks import refuse
from pandora_db.models.pipeline import Pipeline, pipeline_of
from pandora_db.models.stage import (
    MEMBERS,
    Stage,
    StageCode,
    known_stages,
    stage_info,
)


def check_stage(value: object, field: str = "stage") -> StageCode:
    """The stage that a caller gave, as a member of its enum or as the int that is one.

    Raises:
        UnknownCode: an int that no stage has.
        InvalidInput: anything else, bools and text included, or a stage of an enum that was never
            made a pipeline.
    """
    if type(value) is Stage:
        return value
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(field, value, f"a Stage or its code: {known_stages()}")
    member = MEMBERS.get(value)
    if member is not None and member is value:
        return member
    if isinstance(value, StageCode) and (member is None or member.name != value.name):
        kind = type(value).__name__
        raise InvalidInput(
            f"{field} is {kind}.{value.name}, of no pipeline; define it: @define_pipeline(…) over "
            f"class {kind}",
            field=field,
        )
    if member is None:
        raise UnknownCode(field, int(value), known_stages())
    return member


@cache
def live_range(stage: StageCode) -> tuple[int, int]:
    """Lowest and highest code from which a plain `update_stage` may reach `stage`.

    Jumping forward is allowed and so is staying; going back, leaving a terminal stage and changing
    the pipeline are not.
    """
    stages = pipeline_of(stage_info(stage).pipeline).stages
    live = [one.value for one in stages if not one.terminal]
    return live[0], live[-1] if stage.terminal else stage.value


_COLUMNS = ("code", "pipeline", "name", "kind", "returns_to")


def missing_stages(
    rows: Iterable[Sequence[Any]], pipelines: Iterable[Pipeline]
) -> list[dict[str, object]]:
    """The lines that the table `stages`, with those `rows`, lacks of the pipelines.

    Raises:
        ForeignSchema: a code, or the range or number of a pipeline, means something else there.
    """
    found = {row[0]: tuple(row) for row in rows}
    missing: list[dict[str, object]] = []
    for pipeline in pipelines:
        lacking = 0
        for stage in pipeline.stages:
            info = stage_info(stage)
            wanted = (info.code, info.pipeline, info.name, info.kind.value, info.returns_to)
            if stage.value not in found:
                missing.append(dict(zip(_COLUMNS, wanted, strict=True)))
                lacking += 1
            elif found[stage.value] != wanted:
                raise ForeignSchema(
                    f"stage {info.code} is {_describe(found[info.code])} in this database, "
                    f"{_describe(wanted)} in this program"
                )
        if lacking == len(pipeline.stages):
            _refuse_taken(pipeline, found.values())
        _refuse_mixed(pipeline, found.values())
    return missing


def _refuse_taken(pipeline: Pipeline, rows: Iterable[Sequence[Any]]) -> None:
    """Another program's pipeline may have the number, at other codes."""
    theirs = [row[2] for row in rows if row[1] == pipeline.job_type.value]
    if theirs:
        raise ForeignSchema(
            f"job type {pipeline.job_type.value} is {pipeline.name} in this program; in this "
            f"database it has the stages {', '.join(theirs)}"
        )


def _refuse_mixed(pipeline: Pipeline, rows: Iterable[Sequence[Any]]) -> None:
    lowest, highest = pipeline.stages[0].value, pipeline.stages[-1].value
    for row in rows:
        if lowest < row[0] < highest and row[1] != pipeline.job_type.value:
            raise ForeignSchema(
                f"stage {row[0]} is {_describe(row)} in this database, among the codes of "
                f"{pipeline.name} in this program, {lowest} to {highest}"
            )


def _describe(row: Sequence[Any]) -> str:
    _, pipeline, name, kind, returns_to = row
    back = "" if returns_to is None else f", returning to {returns_to}"
    return f"{name!r} ({kind} of job type {pipeline}{back})"
