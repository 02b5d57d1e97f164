"""Which module measures which row; each call is made in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.report import as_json
from benchmarks.rounds import Plan, Result
from benchmarks.rows.alone import alone
from benchmarks.rows.bulk import bulk
from benchmarks.rows.checkpoints import checkpoints
from benchmarks.rows.crowds import postgres_crowd, sqlite_crowd
from benchmarks.rows.growth import growth
from benchmarks.rows.jobs import jobs
from benchmarks.rows.pickup import pickup
from benchmarks.rows.reads import reads
from benchmarks.rows.snapshot import snapshot
from benchmarks.rows.start import start

_MEASURE: dict[int, Callable[[Plan], list[Result]]] = {
    1: sqlite_crowd,
    2: postgres_crowd,
    3: alone,
    4: bulk,
    5: reads,
    6: growth,
    7: pickup,
    8: jobs,
    9: snapshot,
    10: checkpoints,
    11: start,
}


def measured(row: int, plan: Plan) -> list[dict[str, Any]]:
    """The lines of one row of the table, in their JSON form."""
    return [as_json(result) for result in _MEASURE[row](plan)]
