"""What the journals of a storm tell, read back: calls with their outcomes, and faults."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ENDS = ("finish_job", "fail_job", "snooze_job", "release_job")
WRITES = ("save_checkpoint", "update_job")
EPSILON = 0.05
"""Seconds by which the clocks of the database and of the processes, all on one machine, differ."""


@dataclass(slots=True, eq=False)
class Call:
    """One call: its intent, and how it came out as far as its process lived to say.

    Attributes:
        ids: the operation ids under which it went out.
        ended: when its outcome was written down; None when it never was.
        took: seconds by the process's own clock, pauses of the process included.
        error: the type of what it raised.
    """

    process: str
    op: str
    facts: dict[str, Any]
    began: float
    ids: set[str] = field(default_factory=set)
    ended: float | None = None
    took: float = 0.0
    result: dict[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def acked(self) -> bool:
        """Whether its caller was told that it is done."""
        return self.ended is not None and self.error is None

    @property
    def place(self) -> tuple[int, int]:
        """Job and token of a call that was made under a claim."""
        return self.facts["job"], self.facts["token"]

    def __str__(self) -> str:
        outcome = self.error or ("acknowledged" if self.ended else "no outcome")
        return f"{self.op} of {self.process} at {self.began:.3f}, {self.facts}: {outcome}"


@dataclass(slots=True)
class Life:
    """One process.

    Attributes:
        owner: the name under which it claims.
        died: when it was killed or gone.
        killed: it was by our signal.
        failed: it ended by itself, with an error.
        ending: when it was told to end.
        pauses: from when to when it stood still.
        held: those of them for which it held SQLite's write lock.
        cuts: when a connection of it was cut.
    """

    owner: str = ""
    died: float | None = None
    killed: bool = False
    failed: bool = False
    ending: float | None = None
    pauses: list[tuple[float, float]] = field(default_factory=list)
    held: list[tuple[float, float]] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)


class Chronicle:
    """All journals in a folder."""

    def __init__(self, folder: Path) -> None:
        self.calls: list[Call] = []
        self.lives: dict[str, Life] = defaultdict(Life)
        self.terms: dict[str, Any] = {}
        self.struck: dict[tuple[int, int], list[str]] = defaultdict(list)  # by job and token
        self.handlers: list[dict[str, Any]] = []
        self.censuses: list[dict[str, Any]] = []
        self.looks: list[dict[str, Any]] = []
        self.byes: list[dict[str, Any]] = []
        self.left: list[int] | None = None
        self.end = 0.0
        stopped: dict[str, float] = {}
        for path in sorted(folder.glob("*.jsonl")):
            self._read(path.stem, path, stopped)
        for name, at in stopped.items():  # it was killed where it stood
            self.lives[name].pauses.append((at, self.lives[name].died or self.end))
        self.by_id = {operation: call for call in self.calls for operation in call.ids}
        self.repeated = self._repeated()
        self.process_of = {life.owner: name for name, life in self.lives.items() if life.owner}

    def of(self, *ops: str) -> Iterator[Call]:
        """The calls of these methods."""
        return (call for call in self.calls if call.op in ops)

    def life_of(self, owner: str | None) -> Life:
        """The process that claims under that name."""
        return self.lives[self.process_of.get(owner or "", "nobody")]

    def held_within(self, start: float, end: float) -> float:
        """Seconds for which a process that stood still kept all others from writing."""
        spans = [span for life in self.lives.values() for span in life.held]
        return sum(max(0.0, min(end, until) - max(start, since)) for since, until in spans)

    def _repeated(self) -> set[str]:
        """Ids that were sent by more than one call."""
        times = Counter(one for call in self.calls for one in call.ids)
        return {one for one, count in times.items() if count > 1}

    def _read(self, process: str, path: Path, stopped: dict[str, float]) -> None:
        own: dict[int, Call] = {}
        # What the process was writing when it was killed has no end, and was no promise.
        *lines, _ = path.read_bytes().split(b"\n")
        for text in lines:
            line: dict[str, Any] = json.loads(text)
            kind, at = line.pop("kind"), line.pop("at")
            self.end = max(self.end, at)
            if kind == "intent":
                own[line.pop("call")] = call = Call(process, line.pop("op"), line, at)
                self.calls.append(call)
            elif kind == "id":
                call = own[line["call"]]
                call.ids |= _run_of(line["id"], call.facts.get("count", 1))
            elif kind in ("ack", "error"):
                call = own[line.pop("call")]
                call.ended, call.took = at, line.pop("took")
                call.error = line.pop("error", None)
                call.result = line
            else:
                self._note(kind, at, line, stopped)

    def _note(self, kind: str, at: float, line: dict[str, Any], stopped: dict[str, float]) -> None:
        if kind == "fault" and "job" in line:
            self.struck[line["job"], line["token"]].append(line["what"])
        elif kind == "fault":
            self._fault(at, line, stopped)
        elif kind == "begin":
            self.lives[line["worker"]].owner = line["owner"]
        elif kind in ("killed", "gone"):
            life = self.lives[line["worker"]]
            life.died = line["when"]
            life.killed, life.failed = kind == "killed", bool(line["status"])
        elif kind == "terms":
            self.terms = line
        elif kind == "calm":
            self.left = line["left"]
        else:
            notes = {"handler": self.handlers, "census": self.censuses, "look": self.looks}
            notes.get(kind, self.byes).append(line | {"at": at})

    def _fault(self, at: float, line: dict[str, Any], stopped: dict[str, float]) -> None:
        life, what = self.lives[line["worker"]], line["what"]
        if what == "end":
            life.ending = at
        elif what == "terminate":
            life.cuts.append(at)
        elif what == "stop":
            stopped[line["worker"]] = at
        elif what == "resume":
            pause = (stopped.pop(line["worker"]), at)
            life.pauses.append(pause)
            if line["held"]:
                life.held.append(pause)


def _run_of(first: str, count: int) -> set[str]:
    """The operation ids of a bulk call, which are numbered on from its own."""
    number = UUID(first).int
    node = (1 << 48) - 1
    return {str(UUID(int=number & ~node | (number + step) & node)) for step in range(count)}
