"""Pipelines that are defined for one test."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pandora_db import StageCode, StageKind, define_pipeline
from pandora_db.codecs import claim, stage
from pandora_db.models.job_type import DEFINED_TYPES
from pandora_db.models.pipeline import PIPELINES
from pandora_db.models.stage import MEMBERS, STAGES
from pandora_db.store import claim_ends

if TYPE_CHECKING:
    from collections.abc import Iterator

_REGISTERS: tuple[dict[Any, Any], ...] = (PIPELINES, STAGES, MEMBERS, DEFINED_TYPES)
_CACHES: tuple[Any, ...] = (
    stage.live_range, claim.waiting_before, claim.ending, claim_ends._route, claim_ends._way_out,
)  # fmt: skip


@contextmanager
def forgotten() -> Iterator[None]:
    """Forget afterwards what was defined meanwhile; a program never does."""
    before = [register.copy() for register in _REGISTERS]
    yield
    if len(PIPELINES) == len(before[0]):
        return
    for register, content in zip(_REGISTERS, before, strict=True):
        register.clear()
        register.update(content)
    for cache in _CACHES:
        cache.cache_clear()


class Audiobook(StageCode):
    """Two steps of work behind a draft; its codes leave room for more."""

    PREPARING = 300, StageKind.DRAFT
    QUEUED = 301, StageKind.WAITING
    CONVERTING = 310, StageKind.WORKING
    CONVERTED = 320, StageKind.WAITING
    TAGGING = 330, StageKind.WORKING
    DONE = 390, StageKind.DONE
    FAILED = 391, StageKind.FAILED
    CANCELLED = 392, StageKind.CANCELLED


def define_audiobook() -> None:
    """Make `Audiobook` a pipeline until the end of the test."""
    define_pipeline(job_type=200, name="Audiobook")(Audiobook)
