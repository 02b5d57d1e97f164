"""The permanent log as a table or as JSON: who, what, time in each stage, size, result."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.encode_queue.facts import PRESET_NAMES, json_of, title
from pandora_db import EventKind, JobDb, JobEvent, JobRow, Preset, Stage, StageKind

_MOVES = frozenset({EventKind.INSERTED, EventKind.STAGE, EventKind.RETRIED, EventKind.REQUEUED})
_WAITING = (Stage.QUEUED, Stage.DOWNLOADED, Stage.ENCODED)
_COLOURS = {StageKind.DONE: "green", StageKind.FAILED: "red", StageKind.CANCELLED: "red"}
_ERROR = 110  # characters of an error that the table shows
_NO_WIDTH = 132  # columns, where the output is no terminal


@dataclass(frozen=True, slots=True)
class Line:
    """One job of the log; `seconds` holds the time in each stage."""

    job: JobRow
    seconds: dict[Stage, float]
    before: int | None
    after: int | None
    encoder: str | None

    @property
    def waited(self) -> float:
        """Seconds in the waiting stages."""
        return sum(self.seconds.get(stage, 0.0) for stage in _WAITING)


def stage_seconds(events: Iterable[JobEvent]) -> dict[Stage, float]:
    """The time between the moves of a job's history, by stage.

    Work that was interrupted (it ends in Requeued) is left out: nobody knows how long it went on.
    """
    seconds: defaultdict[Stage, float] = defaultdict(float)
    moves = [event for event in events if event.kind in _MOVES and event.stage is not None]
    for move, following in pairwise(moves):
        if following.kind is not EventKind.REQUEUED and move.stage is not None:
            seconds[Stage(move.stage)] += (following.at - move.at).total_seconds()
    return dict(seconds)


async def read_lines(db: JobDb, jobs: Iterable[JobRow]) -> list[Line]:
    """The log's lines for `jobs`, in their order."""
    lines: list[Line] = []
    for job in jobs:
        facts = json_of(job.progress_data) | json_of(job.output)
        seconds = stage_seconds(await db.history(job.job_id))
        lines.append(
            Line(job, seconds, facts.get("source_bytes"), facts.get("bytes"), facts.get("encoder"))
        )
    return lines


def print_tables(lines: Sequence[Line], earlier: Sequence[Line], earlier_total: int) -> None:
    """Print this run's jobs and, if there are any, those of earlier runs."""
    console = Console(width=None if sys.stdout.isatty() else _NO_WIDTH)
    if earlier:
        shown = f"{len(earlier)} newest of {earlier_total} jobs"
        _print(console, f"Earlier runs ({shown})", earlier, dated=True)
    if lines:
        _print(console, "This run", lines, dated=False)


def _print(console: Console, heading: str, lines: Sequence[Line], *, dated: bool) -> None:
    console.print(_table(heading, lines, dated=dated))
    errors = [(line.job.job_id, line.job.error) for line in lines if line.job.error]
    for job_id, error in errors:
        console.print(Text(f"{job_id:>4}  {_short(error)}"))
    if errors:
        console.print()


def _table(heading: str, lines: Sequence[Line], *, dated: bool) -> Table:
    table = Table(
        title=heading,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
    )
    table.add_column("job", justify="right", no_wrap=True)
    table.add_column("who", no_wrap=True)
    table.add_column("what", no_wrap=True, overflow="ellipsis")
    table.add_column("preset", no_wrap=True)
    for name in ("wait", "down", "enc", "up"):
        table.add_column(f"{name} s", justify="right", no_wrap=True)
    table.add_column("MB", justify="right", no_wrap=True)
    table.add_column("result", no_wrap=True)
    if dated:
        table.add_column("ended", style="dim", no_wrap=True)
    for line in lines:
        table.add_row(*_cells(line, dated=dated))
    return table


def _cells(line: Line, *, dated: bool) -> list[str | Text]:
    job, seconds = line.job, line.seconds
    work = [seconds.get(stage) for stage in (Stage.DOWNLOADING, Stage.ENCODING, Stage.UPLOADING)]
    sizes = " → ".join(
        "?" if size is None else f"{size / 1e6:.2f}" for size in (line.before, line.after)
    )
    stage = Stage(job.ready)
    result = Text(stage.name.lower(), style=_COLOURS.get(stage.kind, "yellow"))
    ended = f"{job.completed_at.astimezone():%d %b %H:%M}" if job.completed_at else ""
    return [
        str(job.job_id),
        Text(job.author),
        Text(title(job)),
        _preset(line),
        f"{line.waited:.1f}",
        *("" if part is None else f"{part:.1f}" for part in work),
        "" if line.before is None else sizes,
        result,
        *([ended] if dated else []),
    ]


def _short(error: str) -> str:
    first = error.splitlines()[0]
    return first if len(first) <= _ERROR else f"{first[: _ERROR - 1]}…"


def _preset(line: Line) -> str:
    preset = line.job.to_job_metadata().preset
    if preset is Preset.GPU and line.encoder:
        return f"{PRESET_NAMES[preset]} ({line.encoder})"
    return PRESET_NAMES[preset]


def as_json(lines: Sequence[Line], earlier: Sequence[Line], left: int) -> str:
    """The same as one JSON document; ids are strings, since they need 64 bits."""
    document = {
        "jobs": [_plain(line) for line in lines],
        "earlier": [_plain(line) for line in earlier],
        "left": left,
    }
    return json.dumps(document, indent=2)


def _plain(line: Line) -> dict[str, Any]:
    job = line.job
    return {
        "job_id": str(job.job_id),
        "author": job.author,
        "title": title(job),
        "link": job.link,
        "preset": PRESET_NAMES[job.to_job_metadata().preset],
        "stage": Stage(job.ready).name,
        "error": job.error,
        "attempt": job.attempt,
        "seconds": {stage.name: round(value, 3) for stage, value in line.seconds.items()},
        "encoder": line.encoder,
        "bytes_before": line.before,
        "bytes_after": line.after,
        "file": job.output_file,
        "completed_at": job.completed_at.isoformat() if job.completed_at else None,
    }
