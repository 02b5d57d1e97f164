"""Where to go on claiming, so that what cannot be claimed is not walked over each time.

While an old snapshot is held open, PostgreSQL keeps the index entries of every job that was claimed
since, and each claim walks over all of them: measured, throughput falls to a quarter within a
minute. Jobs that wait for their time at the head of the queue are walked over likewise. So when
claims become slow, the time to find the head of the queue is measured against that to find the next
job behind the last one claimed. Where the head costs more, claims start behind the last one, and
walk from the head only as often as that takes a twentieth of the time. A job that comes to stand
before the cursor, by its priority or because its time has come, is met at the next walk.
"""

from __future__ import annotations

from typing import Any

from pandora_db.models.job_row import JobRow

_SLOW = 0.001
_SLOW_CLAIMS = 3
"""So many in a row are no accident; then it is measured, and again after as many as that was."""
_WALK = 0.001
"""Seconds that the head has to cost more: less is not worth an order that is not kept."""
_SHARE = 19.0
"""Times the extra cost of a walk that go by until the next one: a twentieth of the time."""

QueuePlace = tuple[int, int, int]
"""(-priority, requested_at, job_id)"""


class ClaimCursor:
    """One for each stage and set of filters of a handle."""

    __slots__ = ("_after", "_due", "_on", "_patience", "_quick", "_slow")

    def __init__(self) -> None:
        self._on = False
        self._after: QueuePlace | None = None
        self._due = 0.0
        self._quick = 0.0
        self._slow = 0
        self._patience = _SLOW_CLAIMS

    def start(self, now: float) -> QueuePlace | None:
        """Behind which job to begin at `now` (loop time); None is the head of the queue."""
        return self._after if self._on and now < self._due else None

    @property
    def is_suspicious(self) -> bool:
        """Whether claims from the head have become slow enough to measure why."""
        return self._slow >= self._patience

    def judge(self, head: float, behind: float) -> None:
        """Learn what it takes to find the head of the queue, and a job behind the last one."""
        self._slow = 0
        if head - behind > _WALK and head > 2 * behind:
            self._on = True
            self._patience = _SLOW_CLAIMS
        else:
            self._patience = min(self._patience * 2, 1_000)

    def note(
        self,
        start: QueuePlace | None,
        last: JobRow | None,
        began: float,
        ended: float,
        *,
        full: bool,
    ) -> None:
        """Learn from a claim that began at `start` and took the time between the two.

        `last` is the last job that it got; `full`, whether it got as many as it wanted.
        """
        seconds = ended - began
        self._after = place_of(last) if full and last is not None else None
        if start is not None:
            if full:
                self._quick = (self._quick * 3 + seconds) / 4 if self._quick else seconds
        elif self._on:
            extra = seconds - self._quick if self._quick else seconds
            self._on = full and extra > _WALK
            self._due = ended + extra * _SHARE
        else:
            slow = full and seconds > _SLOW
            self._slow = self._slow + 1 if slow else 0


def place_of(row: JobRow) -> QueuePlace | None:
    """Where a job stands in the queue; None for one that another program left without a time."""
    requested_at: Any = row.requested_at
    return None if requested_at is None else (-row.priority, requested_at, row.job_id)
