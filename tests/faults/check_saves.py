"""I8: what is loaded was saved, and is no older than the last acknowledged checkpoint."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from pandora_db import EventKind, Stage
from tests.faults.check_rows import NOTHING_DONE
from tests.faults.chronicle import ENDS, EPSILON, WRITES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.faults.check_rows import Histories
    from tests.faults.chronicle import Call, Chronicle
    from tests.faults.findings import Findings

# By job and stage: the digest of a state, or why it cannot be read.
Stored = dict[tuple[int, int], tuple[str | None, str | None]]


class Saves:
    """The checkpoints of a storm: by job and stage, in the order of their tokens."""

    def __init__(self, chronicle: Chronicle, found: Findings) -> None:
        self._found = found
        self._written: dict[tuple[int, int], list[Call]] = defaultdict(list)
        self._loads = [call for call in chronicle.of("load_checkpoint") if call.acked]
        for call in chronicle.of("save_checkpoint"):
            self._written[self._place(call)].append(call)
        # A write that was accepted proves that the claim still counted.
        self._proofs: dict[tuple[int, int], float] = {}
        for call in chronicle.of(*ENDS, *WRITES):
            if call.acked:
                self._proofs[call.place] = max(call.began, self._proofs.get(call.place, 0.0))
        for calls in self._written.values():
            calls.sort(key=lambda call: (call.facts["token"], call.began))
            found.figures["checkpoints acknowledged"] += sum(call.acked for call in calls)

    def check(
        self, stored: Stored, histories: Histories, ended: dict[tuple[int, int], float]
    ) -> None:
        """What was loaded by attempts, and what is `stored` in the end: a digest or an error.

        Args:
            stored: by job and stage.
            histories: of every job.
            ended: when each claim was over, by job and token.
        """
        for call in self._loads:
            written = self._written[self._place(call)]
            assert call.ended is not None
            proven = self._proofs.get(call.place, 0.0) >= call.ended
            if not proven and ended.get(call.place, 0.0) < call.ended + EPSILON:
                # Nobody looks at the lease of who only reads: by now the job may be far on.
                self._found.figures["checkpoints read under a lost claim"] += 1
                known = {None, *(save.facts["sha"] for save in written)}
                self._found.expect("I8", "nobody wrote it", call.result["sha"] in known, call)
                continue
            before = [
                save
                for save in written
                if (save.facts["token"], save.began) < (call.facts["token"], call.began)
            ]
            self._compare(before, call.result["sha"], str(call))
        for place, (sha, error) in stored.items():
            self._found.expect("I8", "a stored checkpoint cannot be read", error is None, error)
            if error is None:
                self._compare(self._written[place], sha, f"stored for {place}")
        self._found.figures["checkpoints stored at the end"] = len(stored)
        for (job_id, stage), calls in self._written.items():
            history = histories.get(job_id, [])
            worked = [event.stage for event in history if event.kind is EventKind.CLAIMED]
            failed = bool(history) and history[-1].stage == Stage.FAILED and worked[-1:] == [stage]
            if failed and any(call.acked for call in calls):
                there = (job_id, stage) in stored
                self._found.expect("I8", "an acknowledged one is gone", there, (job_id, stage))

    @staticmethod
    def _place(call: Call) -> tuple[int, int]:
        return call.facts["job"], call.facts["stage"]

    def _compare(self, written: Sequence[Call], sha: str | None, what: str) -> None:
        expect = self._found.expect
        acked = [number for number, call in enumerate(written) if call.acked]
        oldest = acked[-1] if acked else -1
        if sha is None:
            expect("I8", "an acknowledged one is gone", oldest < 0, what)
            return
        self._found.figures["checkpoints read back"] += 1
        found = [
            number
            for number, call in enumerate(written)
            if call.facts["sha"] == sha and call.error not in NOTHING_DONE
        ]
        expect("I8", "nobody wrote it", found, what)
        expect("I8", "older than acknowledged", not found or found[-1] >= oldest, what)
