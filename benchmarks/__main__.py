"""`python -m benchmarks [--rows 1,2] [--quick] [--postgres DSN] [--json FILE]`."""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    from benchmarks.machine import machine
    from benchmarks.measure import measured
    from benchmarks.report import save, show
    from benchmarks.rounds import Plan
    from benchmarks.targets import ROWS
except ImportError as error:
    raise SystemExit(f"{error.name} is missing: pip install -e '.[bench]'") from None


def main() -> None:
    """Measure the rows that were asked for, print the table and keep it as JSON."""
    options = _options()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="pandora-bench-", dir=options.folder) as name:
        folder = Path(name)
        plan = Plan(
            folder=folder,
            postgres=options.postgres,
            rounds=3 if options.quick else 7,
            seconds=0.25 if options.quick else 0.5,
            archived=options.archived or (50_000 if options.quick else 1_000_000),
            seed=options.seed,
        )
        facts = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": asyncio.run(machine(folder, options.postgres)),
            "seed": plan.seed,
            "rounds": plan.rounds,
            "seconds": plan.seconds,
            "archived": plan.archived,
        }
        lines: list[dict[str, Any]] = []
        # Each row in a process of its own: none shall leave a worn heap to the next.
        spawning = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, spawning, max_tasks_per_child=1) as processes:
            for row in options.rows:
                print(f"row {row} … ", end="", flush=True)
                lines += processes.submit(measured, row, plan).result()
                print(f"{time.monotonic() - began:.0f} s", flush=True)
    show(lines)
    if options.json:
        save(options.json, facts, lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=_rows, default=ROWS, help="such as 1,2,11; all by default")
    parser.add_argument("--quick", action="store_true", help="few and short rounds")
    parser.add_argument("--postgres", metavar="DSN", help="server of the PostgreSQL rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep everything measured")
    parser.add_argument("--folder", type=Path, help="where the SQLite files go: a disk, not memory")
    parser.add_argument("--archived", type=int, help="rows in the large archive of row 6")
    parser.add_argument("--seed", type=int, default=2026)
    return parser.parse_args()


def _rows(text: str) -> tuple[int, ...]:
    rows = tuple(int(part) for part in text.split(","))
    if unknown := [row for row in rows if row not in ROWS]:
        raise argparse.ArgumentTypeError(f"there is no row {unknown[0]}; there are {ROWS}")
    return rows


if __name__ == "__main__":
    main()
