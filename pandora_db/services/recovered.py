"""Telling of jobs that were recovered: of each, or of each lost worker where they are many."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence

from pandora_db.models.checks import counted
from pandora_db.models.recovery import RecoveredJob

log = logging.getLogger("pandora_db")

_FEW = 20


def tell_recovered(jobs: Sequence[RecoveredJob]) -> None:
    """Warn of the jobs of one recovery; a worker that died may have left hundreds."""
    many = len(jobs) > _FEW
    for job in jobs:
        log.log(logging.DEBUG if many else logging.WARNING, "recovered %s", job)
    if not many:
        return
    became: dict[str, Counter[str]] = defaultdict(Counter)
    for job in jobs:
        became[job.owner or "nobody"][job.outcome] += 1
    for owner, outcomes in became.items():
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        log.warning("recovered %s of %s: %s", counted(outcomes.total(), "job"), owner, told)
