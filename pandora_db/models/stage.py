"""Stages: where a job stands, and what each code means.

A code is never shared between pipelines, so `jobs.ready` alone tells pipeline, name and kind.
Codes 0 to 7 are libpndb's; 8 and 9 were added by the toolchain that it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, cast

from pandora_db.errors import UnknownCode

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self


class StageKind(StrEnum):
    """What may happen to a job at a stage."""

    DRAFT = "draft"
    WAITING = "waiting"
    WORKING = "working"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether a job at such a stage has ended."""
        return self in (StageKind.DONE, StageKind.FAILED, StageKind.CANCELLED)


@dataclass(frozen=True, slots=True)
class StageInfo:
    """One line of the table `stages`.

    `returns_to` is the code that recovery takes a job back to; only working stages have one.
    """

    code: int
    pipeline: int
    name: str
    kind: StageKind
    returns_to: int | None = None

    def __str__(self) -> str:
        return f"{self.code} {self.name} ({self.kind})"


class StageCode(IntEnum):
    """What the stages of every pipeline have in common; see `define_pipeline` for your own.

    A member is its code, and is written with its kind: `QUEUED = 200, StageKind.WAITING`.
    """

    kind: StageKind
    """What may happen to a job at this stage."""

    # A member that is not written so is refused by define_pipeline(), which can say why: what an
    # enum raises while it is made comes out wrapped.
    def __new__(cls, code: int, kind: StageKind | str | None = None) -> Self:
        """Make a member of its code and kind."""
        member = int.__new__(cls, code if type(code) is int else 0)
        member._value_ = code
        given = cast("StageKind", kind)
        member.kind = StageKind(given) if isinstance(kind, str) and kind in _KINDS else given
        return member

    @classmethod
    def _missing_(cls, value: object) -> StageCode:
        known = listed(cls)
        other = MEMBERS.get(value) if isinstance(value, int) else None
        if other is not None:
            known += f"; {other.value} is {spelled([other])}, of another pipeline"
            value = other.value
        raise UnknownCode("stage", value, known)

    @property
    def terminal(self) -> bool:
        """Whether a job at this stage has ended."""
        return self.kind.terminal

    @property
    def info(self) -> StageInfo:
        """The line of the table `stages`; raises `UnknownCode` before `define_pipeline`."""
        return stage_info(self._value_)


_KINDS = frozenset(StageKind)


class Stage(StageCode):
    """The stages of an encode job (seed: libpndb), stored in `jobs.ready`.

    `Stage(42)` raises `UnknownCode`.
    """

    QUEUED = 0, StageKind.WAITING
    DOWNLOADING = 1, StageKind.WORKING
    DOWNLOADED = 2, StageKind.WAITING
    ENCODING = 3, StageKind.WORKING
    ENCODED = 4, StageKind.WAITING
    UPLOADING = 5, StageKind.WORKING
    UPLOADED = 6, StageKind.DONE
    FAILED = 7, StageKind.FAILED
    DECLINED = 8, StageKind.CANCELLED
    CANCELLED = 9, StageKind.CANCELLED


class TaskStage(StageCode):
    """The stages of a job that is done in one go, whatever its `name`; `JobType.TASK`."""

    QUEUED = 100, StageKind.WAITING
    RUNNING = 101, StageKind.WORKING
    COMPLETED = 102, StageKind.DONE
    FAILED = 103, StageKind.FAILED
    CANCELLED = 104, StageKind.CANCELLED


STAGES: dict[int, StageInfo] = {}
"""Every stage that this program knows, by code; `pipeline.py` fills it."""

MEMBERS: dict[int, StageCode] = {}
"""The members of their enums, by code."""


def listed(stages: Iterable[StageCode]) -> str:
    """Codes and names, for an error message."""
    return ", ".join(f"{stage.value} {stage.name}" for stage in stages)


def spelled(stages: Iterable[StageCode]) -> str:
    """As they are written in a program: several pipelines have a QUEUED."""
    return ", ".join(f"{type(stage).__name__}.{stage.name}" for stage in stages)


def known_stages() -> str:
    """All that this program knows, for an error message."""
    return ", ".join(f"{code} {spelled([stage])}" for code, stage in MEMBERS.items())


def stage_info(code: int | None) -> StageInfo:
    """Pipeline, name and kind of a code.

    Raises:
        UnknownCode: no stage has that code; another program may have left NULL.
    """
    info = STAGES.get(code) if code is not None else None
    if info is None:
        raise UnknownCode("stage", code, known_stages())
    return info


def stage_of(code: int | None, field: str = "stage") -> StageCode:
    """The member of its enum that a code is.

    Raises:
        UnknownCode: no stage has that code.
    """
    member = MEMBERS.get(code) if code is not None else None
    if member is None:
        raise UnknownCode(field, code, known_stages())
    return member
