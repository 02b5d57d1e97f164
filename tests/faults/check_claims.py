"""I5 to I7: tokens, leases that ran out, and executions."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pandora_db import EventKind
from tests.faults.chronicle import ENDS, EPSILON, WRITES
from tests.faults.oracle import RECOVERY, percentiles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.check_rows import Histories
    from tests.faults.chronicle import Chronicle, Life
    from tests.faults.findings import Findings
    from tests.faults.oracle import Event

K = EventKind
ENDED = {K.FINISHED, K.RETRYING, K.FAILED, K.SNOOZED, K.RELEASED, K.CANCELLED, *RECOVERY}


@dataclass(slots=True)
class Execution:
    """A claim in the history: how it began, its token where the journal knows it, how it ended."""

    began: Event
    token: int | None
    end: Event | None = None
    asked: bool = False  # to pause, meanwhile

    @property
    def until(self) -> float:
        """When it had ended."""
        return self.end.at if self.end else float("inf")


class Claims:
    """The claims of a storm."""

    def __init__(self, chronicle: Chronicle, histories: Histories, found: Findings) -> None:
        self._chronicle = chronicle
        self._found = found
        self._tokens = {
            (operation, job_id): token
            for call in chronicle.of("claim_jobs")
            if call.acked
            for job_id, token in call.result["claims"]
            for operation in call.ids
        }
        self._executions = {job_id: list(self._of(past)) for job_id, past in histories.items()}
        self._begun = {(line["job"], line["token"]) for line in chronicle.handlers}
        self._errors: Counter[tuple[int, int]] = Counter(
            call.place
            for call in chronicle.of(*WRITES, "load_checkpoint")
            if call.error not in (None, "LeaseLost", "CancelledError")
        )

    def check(self) -> None:
        """All of I5 to I7."""
        self._fencing()
        for job_id, executions in self._executions.items():
            self._token_order(job_id, executions)
            for execution in executions:
                self._lease(execution)
                self._explained(job_id, execution)
            self._again(job_id, executions)
        self._stuck()
        self._handlers()

    def ended(self) -> dict[tuple[int, int], float]:
        """When each claim was over, by job and token."""
        return {
            (job_id, one.token): one.until
            for job_id, executions in self._executions.items()
            for one in executions
            if one.token is not None
        }

    def _of(self, history: Sequence[Event]) -> Iterator[Execution]:
        now: Execution | None = None
        for event in history:
            if event.kind is K.CLAIMED:
                token = self._tokens.get((event.operation or "", event.job_id))
                now = Execution(event, token)
                yield now
            elif now is not None and event.kind is K.PAUSE_REQUESTED:
                now.asked = True
            elif now is not None and event.kind in ENDED:
                now.end, now = event, None

    def _token_order(self, job_id: int, executions: Sequence[Execution]) -> None:
        known = [one.token for one in executions if one.token is not None]
        rising = all(a < b for a, b in pairwise(known))
        self._found.expect("I5", "tokens do not rise", rising, (job_id, known))

    def _fencing(self) -> None:
        """An end that was accepted ends the claim of its token, and no write comes after it."""
        over: dict[tuple[int, int], float] = {}  # when the claim of job and token was over at last
        by_operation = {
            (one.end.operation, job_id): one
            for job_id, executions in self._executions.items()
            for one in executions
            if one.end is not None
        }
        taken: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for call in self._chronicle.of("claim_jobs"):
            for job_id, token in call.result.get("claims", ()):
                assert call.ended is not None
                taken[job_id].append((token, call.ended))
        for call in self._chronicle.of(*ENDS):
            if call.error == "LeaseLost":
                self._found.figures["late writes refused"] += 1
            if not call.acked:
                continue
            job_id, token = call.place
            assert call.ended is not None
            over[call.place] = min(over.get(call.place, call.ended), call.ended)
            ended = [by_operation.get((one, job_id)) for one in call.ids]
            fits = any(one is not None and self._learn(one, token) == token for one in ended)
            self._found.expect("I5", "a zombie's end was accepted", fits, call)
        for call in self._chronicle.of(*WRITES):
            if call.error == "LeaseLost":
                self._found.figures["late writes refused"] += 1
            if call.acked:
                job_id, token = call.place
                younger = [at for other, at in taken[job_id] if other > token]
                end = min([over.get(call.place, float("inf")), *younger])
                fits = call.began < end + EPSILON
                self._found.expect("I5", "a zombie's write was accepted", fits, call)

    @staticmethod
    def _learn(one: Execution, token: int) -> int:
        """The token of an execution; where the claim was never acknowledged, its end tells it."""
        if one.token is None:
            one.token = token
        return one.token

    def _lease(self, one: Execution) -> None:
        """No lease was broken before it can have run out."""
        if one.end is not None and one.end.kind in RECOVERY:
            lasted = one.end.at - one.began.at
            holds = lasted > self._chronicle.terms["lease"] - EPSILON
            self._found.expect("I5", "a lease was broken", holds, (lasted, one))

    def _explained(self, job_id: int, one: Execution) -> None:
        """An execution that did not bring its job on met a fault, or was told to stop."""
        end = one.end
        if end is None or end.kind in (K.FINISHED, K.CANCELLED):
            self._found.figures["executions, undisturbed"] += 1
            return
        terms, life = self._chronicle.terms, self._chronicle.life_of(one.began.owner)
        struck = one.token is not None and bool(
            self._chronicle.struck.get((job_id, one.token)) or self._errors[job_id, one.token]
        )
        if end.kind in (K.RETRYING, K.FAILED, K.SNOOZED):
            lasted = end.at - one.began.at
            late = "took longer than" in (end.detail or "") and lasted > terms["timeout"] - EPSILON
            holds = struck or late
            why = "a fault of its handler" if struck else "its time-out"
        elif end.kind is K.RELEASED:
            holds = one.asked or (life.ending is not None and life.ending < end.at + EPSILON)
            why = "a pause or a shutdown"
            if not holds and one.token is not None and (job_id, one.token) not in self._begun:
                holds, why = True, "its worker before they began"  # claimed ahead of need
        else:
            why = self._why_recovered(one, life)
            holds = bool(why)
        if holds:
            self._found.figures[f"executions ended by {why}"] += 1
        self._found.expect("I7", "executed again without a fault", holds, one)

    def _why_recovered(self, one: Execution, life: Life) -> str:
        """Which fault kept the worker from renewing the lease; nothing if none did."""
        assert one.end is not None
        start, until = one.began.at - EPSILON, one.end.at + EPSILON
        if life.killed and life.died is not None and life.died < until:
            return "a kill"
        if any(since < until and then > start for since, then in life.pauses):
            return "a pause of the process"
        if any(start < at < until for at in life.cuts):
            return "a cut connection"
        if one.token is None:
            return "a claim that nobody was told of"
        held = self._chronicle.held_within(start, until)
        return "another's pause with the file locked" if held else ""

    def _again(self, job_id: int, executions: Sequence[Execution]) -> None:
        """Executions by stage: one, and one for each that was cut short."""
        times = Counter(one.began.stage for one in executions)
        short = Counter(
            one.began.stage
            for one in executions
            if one.end is not None and one.end.kind is not K.FINISHED
        )
        for stage, count in times.items():
            allowed = 1 + short[stage]
            self._found.figures["executions"] += count
            self._found.figures["executions beyond the first"] += count - 1
            self._found.expect("I7", "executed too often", count <= allowed, (job_id, stage, times))

    def _stuck(self) -> None:
        """A job whose process stands still or is dead is waiting again within the bound."""
        terms = self._chronicle.terms
        bound = terms["lease"] + terms["sweep"] + 1.0
        delays: list[float] = []
        by_owner: dict[str | None, list[Execution]] = defaultdict(list)
        for executions in self._executions.values():
            for one in executions:
                by_owner[one.began.owner].append(one)
        for life in self._chronicle.lives.values():
            stops = [(at, until) for at, until in life.pauses if until - at >= bound]
            if life.died is not None:
                stops.append((life.died, float("inf")))
            for at, until in stops:
                for one in by_owner[life.owner]:
                    if not one.began.at <= at < one.until:
                        continue
                    delay = min(one.until, until) - at
                    if one.end is not None and one.end.kind in RECOVERY:
                        delays.append(delay)
                    most = bound + self._chronicle.held_within(at, at + delay)
                    self._found.expect("I6", "stuck", delay <= most, (round(delay, 3), one))
        left = self._chronicle.left
        self._found.expect("I6", "jobs are left", left == [], left)
        self._found.measured["death or pause to recovery in seconds"] = percentiles(delays)

    def _handlers(self) -> None:
        begun = Counter((line["job"], line["token"]) for line in self._chronicle.handlers)
        self._found.figures["handlers begun"] = begun.total()
        for place, count in begun.items():
            self._found.expect("I7", "a claim was executed twice", count == 1, place)
        claimed = {(job, token) for (_, job), token in self._tokens.items()}
        for place in begun.keys() - claimed:
            self._found.expect("I7", "executed without a claim", False, place)
