"""The oracle of the worker faults: what the workers said against what the database holds.

It reads the tables by itself, and knows the stage graph from the stages alone. What it finds wrong
is counted by name, with some of the findings kept to be read.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pandora_db import EventKind, Stage, StageKind
from pandora_db.models.stage import STAGES, StageInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tests.faults.leaks import Watch

MOST_NOTES = 5
STAYS = {
    EventKind.UPDATED, EventKind.PAUSE_REQUESTED, EventKind.PAUSED, EventKind.RESUMED,
    EventKind.CANCEL_REQUESTED, EventKind.ARCHIVED,
}  # fmt: skip
GIVEN_BACK = {EventKind.RETRYING, EventKind.SNOOZED, EventKind.RELEASED}
TO_WAITING = GIVEN_BACK | {EventKind.RECOVERED}
RECOVERY = {EventKind.RECOVERED, EventKind.INTERRUPTED}
ENDS_CLAIM = GIVEN_BACK | RECOVERY | {EventKind.FINISHED, EventKind.FAILED}
ALWAYS_TO = {EventKind.CANCELLED: Stage.CANCELLED, EventKind.REQUEUED: Stage.QUEUED}


class Event(NamedTuple):
    """A line of `job_events`; `at` in seconds since 1970."""

    job_id: int
    seq: int
    at: float
    kind: EventKind
    stage: int
    attempt: int
    owner: str | None
    detail: str | None
    operation: str | None


async def read_histories(watch: Watch, jobs: Iterable[int] | None = None) -> dict[int, list[Event]]:
    """The events of those jobs, or of every job, in order."""
    which = "" if jobs is None else f"WHERE job_id IN ({', '.join(map(str, jobs))}) "
    rows = await watch.rows(
        "SELECT job_id, seq, at, kind, stage, attempt, owner, detail, operation_id "
        "FROM job_events "
        f"{which}ORDER BY job_id, seq"
    )
    histories: dict[int, list[Event]] = defaultdict(list)
    for job_id, seq, at, kind, stage, attempt, owner, detail, operation in rows:
        named = None if operation is None else str(operation)
        line = (seq, _seconds(at), EventKind(kind), stage, attempt, owner, detail, named)
        histories[job_id].append(Event(job_id, *line))
    return dict(histories)


def _seconds(at: datetime | str) -> float:
    if isinstance(at, str):
        at = datetime.fromisoformat(at).replace(tzinfo=UTC)
    return at.timestamp()


def illegal(history: Sequence[Event]) -> str:
    """Say why `history` is no path of the stage graph; empty when it is one."""
    before: Event | None = None
    owner: str | None = None
    attempt = 0
    for number, event in enumerate(history, 1):
        if event.seq != number:
            return f"event {number} has the number {event.seq}"
        if before is None:
            allowed = event.kind is EventKind.INSERTED
        else:
            allowed = _follows(before.stage, event, owner, attempt)
        if not allowed:
            came = before and f"{before.kind.name} {before.stage}"
            return f"#{number} {event.kind.name} {event.stage} by {event.owner} after {came}"
        if event.kind is EventKind.CLAIMED:
            owner, attempt = event.owner, event.attempt
        elif event.stage != (before and before.stage):
            owner = None
            attempt = _attempts(event, attempt)
        before = event
    return ""


def _attempts(event: Event, attempt: int) -> int:
    if event.kind in (EventKind.SNOOZED, EventKind.RELEASED):
        return attempt - 1
    return attempt if event.kind in TO_WAITING else 0


def _follows(stage: int, event: Event, owner: str | None, attempt: int) -> bool:
    info = STAGES[stage]
    if event.kind in STAYS:
        return event.stage == stage
    if info.kind.terminal:
        return event.kind is EventKind.RETRIED and event.stage == Stage.QUEUED
    if event.kind is EventKind.CLAIMED:
        here = STAGES[event.stage].returns_to == stage
        return here and event.owner is not None and event.attempt == attempt + 1
    if event.kind in ENDS_CLAIM:
        return info.kind is StageKind.WORKING and _ends_claim(info, event, owner)
    if event.kind is EventKind.STAGE:
        return event.stage > stage
    return event.stage == ALWAYS_TO.get(event.kind)


def _ends_claim(info: StageInfo, event: Event, owner: str | None) -> bool:
    if event.kind in RECOVERY:
        return event.stage == (info.returns_to if event.kind in TO_WAITING else Stage.FAILED)
    if event.kind is EventKind.FINISHED:
        return event.owner == owner and event.stage > info.code
    back = info.returns_to if event.kind in GIVEN_BACK else Stage.FAILED
    return event.owner == owner and event.stage == back


class Verdict:
    """What the oracle found: figures, and what is wrong."""

    def __init__(self) -> None:
        self.tally: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.notes: list[str] = []
        self.recovery: list[float] = []
        self.again: list[float] = []

    def complain(self, what: str, detail: object) -> None:
        self.wrong[what] += 1
        if self.wrong[what] <= MOST_NOTES:
            self.notes.append(f"{what}: {detail}")

    def report(self) -> dict[str, Any]:
        """For the JSON of a long form."""
        report: dict[str, Any] = {
            "tally": dict(sorted(self.tally.items())),
            "wrong": dict(self.wrong),
            "notes": self.notes,
        }
        if self.recovery:
            report["kill to recovery in seconds"] = percentiles(self.recovery)
        if self.again:
            report["kill to next claim in seconds"] = percentiles(self.again)
        return report


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p99 and the greatest."""
    if not values:
        return {}
    ordered = sorted(values)
    return {
        "p50": round(ordered[len(ordered) // 2], 3),
        "p99": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 3),
        "max": round(ordered[-1], 3),
    }


class Oracle:
    """One run: its journal, and the database that it left.

    Args:
        journal: the lines that were said, in order.
        poison: jobs that end their worker, with the attempts that each is allowed.
        bound: within so many seconds of a kill the jobs of the killed are waiting again.
    """

    def __init__(
        self, journal: Sequence[dict[str, Any]], *, poison: dict[int, int], bound: float
    ) -> None:
        self._journal = journal
        self._poison = poison
        self._bound = bound
        self._owners = {line["owner"]: line["worker"] for line in journal if "owner" in line}
        self._deaths = {
            line["worker"]: line["at"] for line in journal if line["kind"] in ("killed", "gone")
        }

    async def judge(self, watch: Watch, inserted: set[int]) -> Verdict:
        """Compare; `inserted` are the jobs that were acknowledged at their insert."""
        verdict = Verdict()
        columns = "job_id, ready, archived, error, event_seq, lease_token, lease_owner"
        rows = {row[0]: row for row in await watch.rows(f"SELECT {columns} FROM jobs")}
        histories = await read_histories(watch)
        for job_id in inserted - rows.keys():
            verdict.complain("job lost", job_id)
        for job_id, row in rows.items():
            history = histories.get(job_id, [])
            self._judge_row(verdict, row, history)
            if fault := illegal(history):
                verdict.complain("history illegal", f"job {job_id}: {fault}")
            self._judge_executions(verdict, job_id, history)
        verdict.tally["jobs"] = len(rows)
        verdict.tally["killed workers"] = len(self._deaths)
        self._judge_journal(verdict, histories)
        self._judge_checkpoints(verdict)
        await self._judge_storage(verdict, watch)
        return verdict

    def _judge_row(self, verdict: Verdict, row: tuple[Any, ...], history: list[Event]) -> None:
        job_id, ready, archived, error, seq, token, owner = row
        if seq != len(history) or not history or history[-1].stage != ready:
            verdict.complain("row and history differ", (row, history[-1:]))
        if not archived or not Stage(ready).terminal or token is not None or owner is not None:
            verdict.complain("not ended", row)
        if job_id not in self._poison:
            if ready != Stage.UPLOADED:
                verdict.complain("not uploaded", row)
            return
        last = max((e.attempt for e in history if e.kind is EventKind.CLAIMED), default=0)
        if ready != Stage.FAILED or not error or last != self._poison[job_id]:
            verdict.complain("poison not ended as it should", (row, last))
        verdict.tally["poison jobs"] += 1

    def _judge_executions(self, verdict: Verdict, job_id: int, history: list[Event]) -> None:
        """A claim is followed by another one only if its worker was killed, or gave it back."""
        claim: Event | None = None
        orphaned: float | None = None
        for event in history:
            if event.kind is EventKind.CLAIMED:
                verdict.tally["executions"] += 1
                if orphaned is not None:
                    verdict.again.append(event.at - orphaned)
                claim, orphaned = event, None
            elif event.kind in RECOVERY:
                died = claim and self._deaths.get(self._owners.get(claim.owner or "", ""))
                if died is None or died > event.at + 0.01:
                    verdict.complain("taken from a living worker", event)
                    continue
                verdict.tally["executions ended by a kill"] += 1
                verdict.recovery.append(max(0.0, event.at - died))
                orphaned = died if event.kind is EventKind.RECOVERED else None
                if event.at - died > self._bound:
                    verdict.complain("stuck", f"job {job_id} for {event.at - died:.2f} s")

    def _judge_journal(self, verdict: Verdict, histories: dict[int, list[Event]]) -> None:
        owner_of = {worker: owner for owner, worker in self._owners.items()}
        recorded = Counter(
            (event.job_id, event.kind, event.stage, event.owner)
            for history in histories.values()
            for event in history
        )
        tokens: dict[int, int] = {}
        for line in self._journal:
            kind, job_id = line["kind"], line.get("job", 0)
            if kind == "claim":
                if line["token"] <= tokens.get(job_id, -1):
                    verdict.complain("token used twice", line)
                tokens[job_id] = line["token"]
                if not recorded[job_id, EventKind.CLAIMED, line["stage"], owner_of[line["worker"]]]:
                    verdict.complain("acknowledged claim lost", line)
            elif kind == "ended":
                verdict.tally["acknowledged ends"] += 1
                into = line["into"]
                key = (job_id, EventKind.FINISHED, into, owner_of[line["worker"]])
                if into is not None and recorded[key] != 1:
                    verdict.complain("acknowledged finish lost", line)
            elif kind == "lost":
                verdict.complain("lease lost without a kill", line)

    def _judge_checkpoints(self, verdict: Verdict) -> None:
        """What is loaded was saved, and is not older than the last acknowledged one."""
        written: dict[tuple[int, int], list[str]] = defaultdict(list)
        acknowledged: dict[tuple[int, int], int] = {}
        for line in self._journal:
            place = (line.get("job", 0), line.get("stage", 0))
            if line["kind"] == "saving":
                written[place].append(line["sha"])
            elif line["kind"] == "saved":
                verdict.tally["acknowledged checkpoints"] += 1
                acknowledged[place] = len(written[place]) - 1
            elif line["kind"] == "loaded":
                oldest = acknowledged.get(place, -1)
                found = line["sha"]
                if found is None:
                    if oldest >= 0:
                        verdict.complain("checkpoint lost", line)
                    continue
                verdict.tally["checkpoints read back"] += 1
                if found not in written[place]:
                    verdict.complain("checkpoint that nobody wrote", line)
                elif written[place].index(found) < oldest:
                    verdict.complain("checkpoint older than acknowledged", line)

    async def _judge_storage(self, verdict: Verdict, watch: Watch) -> None:
        left = await watch.rows(
            "SELECT count(*) FROM job_checkpoints JOIN jobs USING (job_id) WHERE ready = %s",
            int(Stage.UPLOADED),
        )
        if left != [(0,)]:
            verdict.complain("checkpoints of finished jobs are left", left)
        if watch.path is not None:
            with closing(sqlite3.connect(watch.path)) as raw:
                if (found := raw.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                    verdict.complain("damaged", found[:3])
