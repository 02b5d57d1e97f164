"""I1 to I4: what was acknowledged is there, what is there was meant, and each history is a path."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pandora_db import EventKind, Hold, Stage
from tests.faults.census import fingerprint
from tests.faults.chronicle import ENDS, EPSILON
from tests.faults.oracle import illegal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.chronicle import Call, Chronicle
    from tests.faults.findings import Findings
    from tests.faults.oracle import Event

K = EventKind
LEAVES = {
    "insert_job": {K.INSERTED},
    "insert_jobs": {K.INSERTED},
    "claim_jobs": {K.CLAIMED},
    "finish_job": {K.FINISHED, K.CANCELLED},
    "fail_job": {K.RETRYING, K.FAILED, K.CANCELLED},
    "snooze_job": {K.SNOOZED, K.CANCELLED},
    "release_job": {K.RELEASED, K.CANCELLED},
    "recover": {K.RECOVERED, K.INTERRUPTED, K.CANCELLED},
    "cancel_job": {K.CANCELLED, K.CANCEL_REQUESTED},
    "pause_job": {K.PAUSED, K.PAUSE_REQUESTED},
    "resume_job": {K.RESUMED},
}  # fmt: skip
# Whoever raises one of these says that nothing was applied.
NOTHING_DONE = {
    "LeaseLost", "InvalidTransition", "NotFound", "ConnectionFailed", "LockTimeout", "PoolTimeout",
    "StatementTimeout", "TransactionAborted", "HandleClosed",
}  # fmt: skip
HOLDS = {
    K.PAUSED: Hold.PAUSE, K.PAUSE_REQUESTED: Hold.PAUSE, K.RESUMED: Hold.NONE,
    K.CANCEL_REQUESTED: Hold.CANCEL,
}  # fmt: skip
Histories = dict[int, list["Event"]]


class Rows:
    """The rows of a database as a storm left it."""

    def __init__(
        self, chronicle: Chronicle, jobs: dict[int, Any], histories: Histories, found: Findings
    ) -> None:
        self._chronicle = chronicle
        self._jobs = jobs
        self._histories = histories
        self._found = found
        self._left: Counter[tuple[str, int]] = Counter(
            (event.operation, job_id)
            for job_id, history in histories.items()
            for event in history
            if event.operation is not None
        )
        self._kinds = {
            (event.operation, job_id): event.kind
            for job_id, history in histories.items()
            for event in history
        }

    def check(self) -> None:
        """All of I1 to I4."""
        for call in self._chronicle.calls:
            if call.acked:
                self._present(call)
        self._meant()
        self._outcomes()
        self._censuses()
        for job_id in self._jobs.keys() | self._histories.keys():
            self._path(job_id, self._histories.get(job_id, []))

    def _present(self, call: Call) -> None:
        expect = self._found.expect
        if call.op in ("insert_job", "insert_jobs"):
            jobs = call.result["jobs"]
            expect("I1", "a bulk insert is whole", len(jobs) == call.facts.get("count", 1), call)
            for job_id in jobs:
                there = job_id in self._jobs and self._by(call, job_id)
                expect("I1", "an acknowledged insert is lost", there, (job_id, str(call)))
        elif call.op == "claim_jobs":
            for job_id, _ in call.result["claims"]:
                found = self._by(call, job_id)
                expect("I1", "an acknowledged claim is lost", found, (job_id, str(call)))
        elif call.op in ENDS:
            found = self._by(call, call.facts["job"])
            expect("I1", "an acknowledged end is lost", found, call)
        elif call.op in ("cancel_job", "pause_job", "resume_job"):
            job_id = call.facts["job"]
            found = self._by(call, job_id) or self._was_so(call, self._histories.get(job_id, []))
            expect("I1", "an acknowledged request is lost", found, call)

    def _by(self, call: Call, job_id: int) -> bool:
        """Whether the job has an event of that call, of a kind that such a call leaves."""
        return any(self._kinds.get((one, job_id)) in LEAVES[call.op] for one in call.ids)

    def _was_so(self, call: Call, history: Sequence[Event]) -> bool:
        """Whether, while the call was made, the job was already what it asked for."""
        assert call.ended is not None
        hold, since = Hold.NONE, 0.0
        wanted = {"cancel_job": Hold.CANCEL, "pause_job": Hold.PAUSE, "resume_job": Hold.NONE}
        for event in [*history, None]:
            # An event bears the time at which its statement began, before it waited for a lock.
            until = call.ended if event is None else event.at + 1.0
            if hold == wanted[call.op] and since < call.ended + EPSILON and until > call.began:
                return True
            if event is not None:
                hold, since = HOLDS.get(event.kind, hold), event.at
        return call.op == "cancel_job" and bool(history) and history[-1].stage == Stage.CANCELLED

    def _meant(self) -> None:
        expect, by_id = self._found.expect, self._chronicle.by_id
        for (operation, job_id), kind in self._kinds.items():
            call = by_id.get(operation or "")
            expect("I2", "an event without an intent", call, (job_id, kind.name, operation))
            if call is None:
                continue
            same = call.facts.get("job", job_id) == job_id and kind in LEAVES.get(call.op, ())
            expect("I2", "an event that its call does not leave", same, (job_id, kind, str(call)))
        for key, count in self._left.items():
            told = (*key, str(by_id.get(key[0])))
            expect("I2", "an operation was done twice", count == 1, told)
        inserted = Counter(
            event.operation
            for history in self._histories.values()
            for event in history
            if event.kind is K.INSERTED
        )
        for operation, count in inserted.items():
            expect("I2", "an operation was done twice", count == 1, operation)
        for job_id in self._jobs.keys() - self._histories.keys():
            expect("I2", "a job without a history", False, job_id)

    def _outcomes(self) -> None:
        """A refused call left nothing; of one without an answer all or nothing is there."""
        done = Counter(operation for operation, _ in self._left.elements())
        for call in self._chronicle.calls:
            if call.acked or not call.ids or call.op not in LEAVES or call.op == "recover":
                continue
            if call.ids & self._chronicle.repeated:
                continue
            left = sum(done[one] for one in call.ids)
            if call.error in NOTHING_DONE:
                self._found.expect("I2", "a refused call left something", not left, call)
                continue
            self._found.figures["unknown outcomes: " + ("done" if left else "not done")] += 1
            whole = left in (0, call.facts.get("count", 1)) or call.op == "claim_jobs"
            self._found.expect("I2", "a call was done in part", whole, (left, str(call)))

    def _censuses(self) -> None:
        expect = self._found.expect
        for census in self._chronicle.censuses:
            for name, (count, sha) in census["jobs"].items():
                history = self._histories.get(int(name), [])[:count]
                there = int(name) in self._jobs and len(history) == count
                expect("I3", "a row disappeared", there, (name, census["at"]))
                seen = [
                    (one.seq, int(one.kind), one.stage, one.attempt, one.owner) for one in history
                ]
                same = not there or fingerprint(seen) == sha
                expect("I3", "the past of a job was changed", same, (name, census["at"]))

    def _path(self, job_id: int, history: Sequence[Event]) -> None:
        expect, row = self._found.expect, self._jobs.get(job_id)
        numbers = [event.seq for event in history]
        expect("I3", "a gap", numbers == list(range(1, len(numbers) + 1)), (job_id, numbers))
        expect("I3", "a history without its job", row is not None, job_id)
        if row is None or not history:
            return
        expect("I3", "row and history differ", row.event_seq == len(history), (row, len(history)))
        fault = illegal(history)
        expect("I4", "no path of the stage graph", not fault, (job_id, fault))
        expect("I4", "row and history differ", row.ready == history[-1].stage, (row, history[-1]))
        ended = Stage(row.ready).terminal
        expect("I4", "archived or not", bool(row.archived) == ended, row)
        if row.ready == Stage.UPLOADED:
            done = [event.stage for event in history if event.kind is K.FINISHED]
            way = [Stage.DOWNLOADED, Stage.ENCODED, Stage.UPLOADED]
            expect("I4", "a stage was left out or done twice", done == way, (job_id, done))
