"""Pipelines: the stages that a job of one type goes through, and how to define one's own."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from threading import Lock
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from pandora_db.errors import InvalidInput, UnknownCode
from pandora_db.models.job_type import DEFINED_TYPES, JobType, known_job_types, new_job_type
from pandora_db.models.stage import (
    MEMBERS,
    STAGES,
    Stage,
    StageCode,
    StageInfo,
    StageKind,
    TaskStage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FIRST_CODE, LAST_CODE = 200, 32_767
"""The codes and job types that are the users'; the column is a SMALLINT."""

_MAX_NAME = 64
_NEEDED = (
    StageKind.WAITING, StageKind.WORKING, StageKind.DONE, StageKind.FAILED, StageKind.CANCELLED,
)  # fmt: skip
_STARTS = (StageKind.DRAFT, StageKind.WAITING)

Stages = TypeVar("Stages", bound=type[StageCode])


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The stages of one job type.

    Attributes:
        job_type: its number in `jobs.job_type`.
        name: for people.
        stages: in the order of their codes.
        start: where a job begins when nothing else is said: the first draft or waiting stage.
        first: the first waiting stage, where `retry_job` and `requeue_job` take a job.
        cancelled: where `cancel_job` takes it; the last such stage, as in recover_jobs.
        declined: where `decline_job` takes it: the one called DECLINED, if there is one.
    """

    job_type: JobType
    name: str
    stages: tuple[StageCode, ...]
    start: StageCode
    first: StageCode
    cancelled: StageCode
    declined: StageCode

    def __str__(self) -> str:
        return f"{self.name} (job type {self.job_type.value})"


PIPELINES: dict[int, Pipeline] = {}
"""Every pipeline that this program knows, by job type."""

_lock = Lock()


def pipeline_of(job_type: int) -> Pipeline:
    """The pipeline of a job type; raises `UnknownCode`."""
    found = PIPELINES.get(job_type)
    if found is None:
        raise UnknownCode("job_type", job_type, known_job_types())
    return found


def define_pipeline(*, job_type: int, name: str) -> Callable[[Stages], Stages]:
    """Make an enum of stages a pipeline of one's own: a decorator.

        @define_pipeline(job_type=200, name="Audiobook")
        class Audiobook(StageCode):
            QUEUED = 200, StageKind.WAITING
            CONVERTING = 201, StageKind.WORKING
            CONVERTED = 210, StageKind.DONE
            FAILED = 211, StageKind.FAILED
            CANCELLED = 212, StageKind.CANCELLED

    Jobs move from lower codes to higher ones; a worker that is lost or gives a job back leaves it
    at the waiting stage before. At least one stage of every kind but DRAFT is needed, and those
    that end a job come last. Define it where every program of the database imports it, before
    `init_schema()`, which writes it down. A code keeps its meaning for ever.

    Defining the same again changes nothing, and gives back the enum that was defined first.

    Args:
        job_type: the number in `jobs.job_type`, 200 … 32,767; codes of stages are from the same
            range, and may be the same numbers.
        name: for people, 1 to 64 characters.

    Raises:
        InvalidInput: a number, code or name is taken or out of range, or the stages make no
            pipeline; nothing was defined.
    """
    if isinstance(job_type, bool) or not isinstance(cast("object", job_type), int):
        _refuse("job_type", f"job_type is {job_type!r}; expected an int")
    if not FIRST_CODE <= job_type <= LAST_CODE:
        _refuse("job_type", f"job_type is {job_type}; expected {FIRST_CODE} to {LAST_CODE}")
    if not isinstance(cast("object", name), str) or not re.fullmatch(r"\w[\w -]*", name):
        _refuse("name", f"name is {name!r}; expected letters, digits, spaces and -")
    if len(name) > _MAX_NAME:
        _refuse("name", f"name has {len(name)} characters; expected at most {_MAX_NAME}")

    def define(stages: Stages) -> Stages:
        with _lock:
            return cast("Stages", _define(int(job_type), name, stages))

    return define


def _define(number: int, name: str, stages: type[StageCode]) -> type[StageCode]:
    members = _check_enum(name, stages)
    known = PIPELINES.get(number)
    if known is not None:
        if (known.name, _content(known.stages)) == (name, _content(members)):
            return type(known.stages[0])
        _refuse("job_type", f"{name}: job type {number} is taken by the pipeline {known.name}")
    _check_taken(name, members)
    _check_kinds(name, members)
    _enter(new_job_type(number, _upper(name)), name, members)
    return stages


def _check_enum(name: str, stages: object) -> tuple[StageCode, ...]:
    """The members in order, each with a code and a kind of its own writing."""
    if not isinstance(stages, type) or not issubclass(stages, StageCode) or not len(stages):
        _refuse("stages", f"{name}: expected an enum of stages: class {name}(StageCode): …")
    for alias, member in stages.__members__.items():
        if type(member.value) is not int or not isinstance(cast("object", member.kind), StageKind):
            _refuse(
                "stages",
                f"{name}: {alias} is not a code and a kind; "
                f"write {alias} = {FIRST_CODE}, StageKind.WAITING",
            )
        if alias != member.name:
            _refuse("stages", f"{name}: {member.name} and {alias} have one code, {member.value}")
        if not FIRST_CODE <= member.value <= LAST_CODE:
            _refuse(
                "stages",
                f"{name}: {alias} has the code {member.value}; "
                f"expected {FIRST_CODE} to {LAST_CODE}",
            )
    twice = [label for label, count in Counter(map(_label, stages)).items() if count > 1]
    if twice:
        _refuse("stages", f"{name}: two stages would be called {twice[0]!r}")
    return tuple(sorted(stages))


def _check_taken(name: str, members: Sequence[StageCode]) -> None:
    for known in PIPELINES.values():
        if _upper(known.name) == _upper(name):
            _refuse("name", f"there is a pipeline {known.name} already, {known}")
    for member in members:
        taken = STAGES.get(member.value)
        if taken is not None:
            owner = PIPELINES[taken.pipeline].name
            _refuse(
                "stages",
                f"{name}: the code {member.value} of {member.name} is taken by {taken.name} of the "
                f"pipeline {owner}",
            )
    # By lowest and highest code update_stage() tells whether a job comes from its own pipeline.
    for pipeline in PIPELINES.values():
        theirs = pipeline.stages
        if theirs[0] < members[-1] and members[0] < theirs[-1]:
            _refuse(
                "stages",
                f"{name}: the codes {members[0].value} to {members[-1].value} and those of "
                f"{pipeline.name}, {theirs[0].value} to {theirs[-1].value}, are mixed; "
                "give each pipeline a range of its own",
            )


def _check_kinds(name: str, members: Sequence[StageCode]) -> None:
    kinds = [member.kind for member in members]
    for kind in _NEEDED:
        if kind not in kinds:
            _refuse("stages", f"{name}: no stage is {kind}; a pipeline needs one of each kind")
    for member, after in pairwise(members):
        if member.terminal and not after.terminal:
            _refuse(
                "stages",
                f"{name}: {after.name} comes after {member.name}, where a job has ended; "
                "give the stages that end it the highest codes",
            )
    for member in members:
        if member.kind is StageKind.WORKING and _returns_to(member, members) is None:
            _refuse("stages", f"{name}: no waiting stage comes before {member.name}")


def _enter(job_type: JobType, name: str, members: Sequence[StageCode]) -> None:
    cancelled = [stage for stage in members if stage.kind is StageKind.CANCELLED]
    pipeline = Pipeline(
        job_type,
        name,
        tuple(members),
        start=next(stage for stage in members if stage.kind in _STARTS),
        first=next(stage for stage in members if stage.kind is StageKind.WAITING),
        cancelled=cancelled[-1],
        declined=next((one for one in cancelled if one.name == "DECLINED"), cancelled[-1]),
    )
    STAGES.update(
        (
            stage.value,
            StageInfo(
                stage.value, job_type.value, _label(stage), stage.kind, _returns_to(stage, members)
            ),
        )
        for stage in members
    )
    MEMBERS.update((stage.value, stage) for stage in members)
    PIPELINES[job_type.value] = pipeline
    if job_type not in JobType.__members__.values():
        DEFINED_TYPES[job_type.value] = job_type


def _returns_to(stage: StageCode, members: Sequence[StageCode]) -> int | None:
    """The code of the waiting stage before a working one."""
    if stage.kind is not StageKind.WORKING:
        return None
    before = [one for one in members if one < stage and one.kind is StageKind.WAITING]
    return before[-1].value if before else None


def _content(members: Sequence[StageCode]) -> list[tuple[str, int, StageKind]]:
    return [(member.name, member.value, member.kind) for member in members]


def _label(stage: StageCode) -> str:
    """The name for people: DOWNLOADING is Downloading."""
    return " ".join(stage.name.split("_")).strip().capitalize()


def _upper(name: str) -> str:
    return re.sub(r"[ -]", "_", name).upper()


def _refuse(field: str, message: str) -> NoReturn:
    raise InvalidInput(message, field=field)


_enter(JobType.ENCODE, "Encode", tuple(Stage))
_enter(JobType.TASK, "Task", tuple(TaskStage))
