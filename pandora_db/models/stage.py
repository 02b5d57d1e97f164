"""Stages: where a job stands, and what each code means.

A code is never shared between pipelines, so `jobs.ready` alone tells pipeline, name and kind.
Codes 0 to 7 are libpndb's; 8 and 9 were added by the toolchain that it belongs to.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from pandora_db.errors import UnknownCode


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


class Stage(IntEnum):
    """The stages of an encode job (seed: libpndb), stored in `jobs.ready`.

    `Stage(42)` raises `UnknownCode`.
    """

    QUEUED = 0
    DOWNLOADING = 1
    DOWNLOADED = 2
    ENCODING = 3
    ENCODED = 4
    UPLOADING = 5
    UPLOADED = 6
    FAILED = 7
    DECLINED = 8
    CANCELLED = 9

    @classmethod
    def _missing_(cls, value: object) -> Stage:
        raise UnknownCode("stage", value, KNOWN_STAGES)

    @property
    def kind(self) -> StageKind:
        """What may happen to a job at this stage."""
        return STAGES[self].kind

    @property
    def terminal(self) -> bool:
        """Whether a job at this stage has ended."""
        return STAGES[self].kind.terminal


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


KNOWN_STAGES = ", ".join(f"{stage.value} {stage.name}" for stage in Stage)

STAGES: dict[int, StageInfo] = {
    info.code: info
    for info in (
        StageInfo(Stage.QUEUED.value, 1, "Queued", StageKind.WAITING),
        StageInfo(Stage.DOWNLOADING.value, 1, "Downloading", StageKind.WORKING, 0),
        StageInfo(Stage.DOWNLOADED.value, 1, "Downloaded", StageKind.WAITING),
        StageInfo(Stage.ENCODING.value, 1, "Encoding", StageKind.WORKING, 2),
        StageInfo(Stage.ENCODED.value, 1, "Encoded", StageKind.WAITING),
        StageInfo(Stage.UPLOADING.value, 1, "Uploading", StageKind.WORKING, 4),
        StageInfo(Stage.UPLOADED.value, 1, "Uploaded", StageKind.DONE),
        StageInfo(Stage.FAILED.value, 1, "Failed", StageKind.FAILED),
        StageInfo(Stage.DECLINED.value, 1, "Declined", StageKind.CANCELLED),
        StageInfo(Stage.CANCELLED.value, 1, "Cancelled", StageKind.CANCELLED),
    )
}
"""Every stage that this version knows, by code."""


def stage_info(code: int | None) -> StageInfo:
    """Pipeline, name and kind of a code.

    Raises:
        UnknownCode: no stage has that code; another program may have left NULL.
    """
    info = STAGES.get(code) if code is not None else None
    if info is None:
        raise UnknownCode("stage", code, KNOWN_STAGES)
    return info
