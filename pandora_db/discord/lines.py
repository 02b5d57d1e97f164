"""What is to be shown where: one line for each job, one lane for each channel."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from pandora_db.discord.message import MessageRef
from pandora_db.discord.pace import Pace


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """The fields of a message; `last` when the job has ended with them."""

    fields: dict[str, Any]
    last: bool = False

    def same(self, other: Shown) -> bool:
        """Whether both look alike: embeds and views are made anew each time."""
        return self.fields.keys() == other.fields.keys() and all(
            value == other.fields[name] or _looks(value) == _looks(other.fields[name])
            for name, value in self.fields.items()
        )


@dataclass(slots=True, eq=False)
class Line:
    """One job and its message.

    Attributes:
        job_id: the job.
        ref: its message.
        wanted: what is yet to be shown.
        shown: what the message shows, if it was edited from here.
        due: not before then, by the clock of the loop.
        failures: attempts in a row that failed.
        ended: its last state was shown, or cannot be; progress that comes later does not count.
        dropped: nobody wants to see it any more.
        gone: its channel cannot be reached.
        unstored: its message is a new one, and the job does not know it yet.
        waiters: who waits until all is shown, or cannot be.
    """

    job_id: int
    ref: MessageRef
    wanted: Shown | None = None
    shown: Shown | None = None
    due: float = 0.0
    failures: int = 0
    ended: bool = False
    dropped: bool = False
    gone: bool = False
    unstored: bool = False
    waiters: list[asyncio.Future[bool]] = field(default_factory=list[asyncio.Future[bool]])

    @property
    def dirty(self) -> bool:
        """Whether anything is left to do."""
        return self.wanted is not None or self.unstored

    def answer(self, *, delivered: bool) -> None:
        """Tell those who wait."""
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(delivered)


def _looks(value: Any) -> Any:  # noqa: ANN401 - of whichever library
    if isinstance(value, (list, tuple)):
        return [_looks(each) for each in cast("list[Any]", value)]
    for name in ("to_components", "to_dict"):
        if hasattr(value, name):
            return getattr(value, name)()
    return value


class Lane:
    """The lines of one channel that have something to show; they share its edit limit."""

    def __init__(self, pace: Pace) -> None:
        self.pace = pace
        self.rung = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._lines: dict[int, Line] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def enter(self, line: Line) -> None:
        """Let a line wait for its turn, behind the others."""
        if line.job_id not in self._lines:
            self._lines[line.job_id] = line
            self.rung.set()

    def leave(self, line: Line) -> None:
        """Take a line out; another one of the same job stays."""
        if self._lines.get(line.job_id) is line:
            del self._lines[line.job_id]

    def requeue(self, line: Line) -> None:
        """Let a line that had its turn wait behind the others."""
        self.leave(line)
        self._lines[line.job_id] = line

    def choose(self, now: float, *, hurry: bool) -> tuple[Line | None, float]:
        """Whose turn it is, last states first, or when to look again."""
        chosen: Line | None = None
        soonest = float("inf")
        for line in self._lines.values():
            last = line.wanted is not None and line.wanted.last
            # Nobody waits for the next interval with the last state, or when all is to end.
            due = line.due if line.failures or not (last or hurry) else 0.0
            if due > now:
                soonest = min(soonest, due)
            elif last:
                return line, now
            elif chosen is None:
                chosen = line
        return chosen, now if chosen else soonest
