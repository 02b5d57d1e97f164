"""What the history of a job tells: who was at it how often, and how long it was where."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pandora_db import EventKind, JobEvent, Stage

_LOST = frozenset({EventKind.RECOVERED, EventKind.INTERRUPTED, EventKind.REQUEUED})
_ENDS = {
    EventKind.FINISHED: "finished",
    EventKind.FAILED: "failed",
    EventKind.RETRYING: "failed",
    EventKind.RELEASED: "given back",
    EventKind.CANCELLED: "cancelled",
    EventKind.RECOVERED: "its lease ran out",
    EventKind.INTERRUPTED: "its lease ran out",
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One worker's work on a job at one stage; `seconds` up to where it was known to have ended."""

    stage: Stage
    number: int
    owner: str | None
    seconds: float
    end: str


def attempts_of(events: Sequence[JobEvent]) -> list[Attempt]:
    """Every claim in a job's history, with what ended it."""
    found: list[Attempt] = []
    moves = [event for event in events if event.stage is not None]
    for index, claimed in enumerate(moves):
        if claimed.kind is not EventKind.CLAIMED or claimed.stage is None:
            continue
        stage = Stage(claimed.stage)
        ended = next((event for event in moves[index + 1 :] if event.stage != stage), None)
        seconds = (ended.at - claimed.at).total_seconds() if ended else 0.0
        end = _ENDS.get(ended.kind, ended.kind.name.lower()) if ended else "at work"
        found.append(Attempt(stage, claimed.attempt, claimed.owner, seconds, end))
    return found


def stage_seconds(events: Sequence[JobEvent]) -> dict[Stage, float]:
    """The time between the moves of a job's history, by stage.

    The work of a lost worker is left out: nobody knows how long it went on.
    """
    seconds: defaultdict[Stage, float] = defaultdict(float)
    moves = [event for event in events if event.stage is not None]
    for move, following in pairwise(moves):
        if following.kind not in _LOST and move.stage is not None:
            seconds[Stage(move.stage)] += (following.at - move.at).total_seconds()
    return dict(seconds)
