"""The permanent log as tables or as JSON: who, what, time in each stage, size, result, attempts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.encode_queue.attempts import Attempt, attempts_of, stage_seconds
from examples.encode_queue.facts import PRESET_NAMES, json_of, preset_of, title
from examples.encode_queue.workers import Names, pid_of
from pandora_db import JobDb, JobRow, Preset, Stage, StageKind

_WAITING = (Stage.QUEUED, Stage.DOWNLOADED, Stage.ENCODED)
_WORKING = (Stage.DOWNLOADING, Stage.ENCODING, Stage.UPLOADING)
_COLOURS = {StageKind.DONE: "green", StageKind.FAILED: "red", StageKind.CANCELLED: "red"}

_SHRINKING = ("who", "what", "preset")
"""Columns that get shorter where there is little room; a number is never cut."""
_LEAST = 4  # characters of them


@dataclass(frozen=True, slots=True)
class Line:
    """One job of the log.

    Attributes:
        seconds: the time in each stage.
        downloads: how often our server sent the video, by its own count.
        facts: what the stages answered.
    """

    job: JobRow
    seconds: dict[Stage, float]
    attempts: list[Attempt]
    downloads: int
    facts: dict[str, Any]

    @property
    def segments(self) -> list[dict[str, Any]]:
        """The attempt and the owner that encoded each segment."""
        return list(self.facts.get("segments", ()))


async def read_lines(db: JobDb, jobs: Iterable[JobRow], downloads: Mapping[int, int]) -> list[Line]:
    """The log's lines for `jobs`, in their order."""
    lines: list[Line] = []
    for job in jobs:
        events = await db.history(job.job_id)
        lines.append(
            Line(
                job, stage_seconds(events), attempts_of(events), downloads.get(job.job_id, 0),
                json_of(job.output),
            )
        )  # fmt: skip
    return lines


def print_report(
    lines: Sequence[Line], earlier: Sequence[Line], names: Names, console: Console | None = None
) -> None:
    """Print this run's jobs and, if there are any, those of earlier runs; 80 columns are enough."""
    console = console or Console()
    if earlier:
        _print(console, f"Earlier runs (the last {len(earlier)} jobs)", earlier, dated=True)
    if lines:
        _print(console, "This run (times in seconds)", lines, dated=False)
    for line in lines:
        tries = Counter(attempt.stage for attempt in line.attempts)
        for stage in _WORKING:
            if tries[stage] > 1:
                _show(console, _attempts(line, stage, names))


def _print(console: Console, heading: str, lines: Sequence[Line], *, dated: bool) -> None:
    _show(console, _table(heading, lines, console.width, dated=dated))
    errors = [(line.job.job_id, line.job.error) for line in lines if line.job.error]
    if errors:
        console.print()
    for job_id, error in errors:
        console.print(Text(f"job {job_id}: {error.splitlines()[0]}"))


def _show(console: Console, table: Table) -> None:
    console.print()
    console.print(table)


def _grid(heading: str) -> Table:
    return Table(
        title=heading,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )


def _table(heading: str, lines: Sequence[Line], width: int, *, dated: bool) -> Table:
    times = () if dated else ("wait", "down", "enc", "up")
    names = ("job", *_SHRINKING, *times, "MB", "result", *(("ended",) if dated else ()))
    rows = [_cells(line, dated=dated) for line in lines]
    widths = {
        name: max(len(name), *(len(row[index]) for row in rows)) for index, name in enumerate(names)
    }
    while sum(widths.values()) + len(widths) - 1 > width:  # a space between any two
        widest = max(_SHRINKING, key=widths.__getitem__)
        if widths[widest] <= _LEAST:
            break
        widths[widest] -= 1
    table = _grid(heading)
    for name in names:
        left = name in (*_SHRINKING, "result", "ended")
        justify: Literal["left", "right"] = "left" if left else "right"
        table.add_column(
            name, no_wrap=True, overflow="ellipsis", width=widths[name], justify=justify
        )
    for row in rows:
        table.add_row(*row)
    return table


def _cells(line: Line, *, dated: bool) -> list[Text]:
    job, stage = line.job, Stage(line.job.ready)
    cells = [str(job.job_id), job.author, title(job), _preset(line)]
    if not dated:
        waited = sum(line.seconds.get(stage, 0.0) for stage in _WAITING)
        cells.append(f"{waited:.1f}")
        work = [line.seconds.get(stage) for stage in _WORKING]
        cells += ["" if part is None else f"{part:.1f}" for part in work]
    before, after = line.facts.get("source_bytes"), line.facts.get("bytes")
    cells.append(f"{_megabytes(before)} → {_megabytes(after)}" if before else "")
    texts = [Text(cell) for cell in cells]
    texts.append(Text(stage.name.lower(), style=_COLOURS.get(stage.kind, "yellow")))
    if dated:
        at = f"{job.completed_at.astimezone():%d %b %H:%M}" if job.completed_at else ""
        texts.append(Text(at, style="dim"))
    return texts


def _megabytes(size: int | None) -> str:
    if size is None:
        return "?"
    millions = size / 1e6
    return f"{millions:.2f}" if millions < 10 else f"{millions:.1f}"  # noqa: PLR2004


def _preset(line: Line) -> str:
    preset, encoder = preset_of(line.job), line.facts.get("encoder")
    if preset is Preset.GPU and encoder:
        return f"{PRESET_NAMES[preset]} ({encoder})"
    return PRESET_NAMES[preset]


def _attempts(line: Line, stage: Stage, names: Names) -> Table:
    """The attempts at one stage of a job, out of its history."""
    fetched = ""
    if line.downloads:
        fetched = ", downloaded once" if line.downloads == 1 else f", {line.downloads} downloads"
    table = _grid(f"Job {line.job.job_id}, {stage.name.lower()}{fetched}")
    for name in ("attempt", "by", "seconds", "segments", "how it ended"):
        right = name in ("attempt", "seconds")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "by")
    for attempt in line.attempts:
        if attempt.stage is not stage:
            continue
        maker = {"attempt": attempt.number, "owner": attempt.owner}
        made = [n for n, by in enumerate(line.segments, 1) if by == maker]
        kept = f"{made[0]} to {made[-1]}" if made and stage is Stage.ENCODING else ""
        killed = pid_of(attempt.owner) in names.killed and attempt.end != "finished"
        end = Text(f"killed; {attempt.end}", style="red") if killed else Text(attempt.end)
        table.add_row(
            str(attempt.number), names.of(attempt.owner), f"{attempt.seconds:.1f}", kept, end
        )
    return table


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
        "preset": PRESET_NAMES[preset_of(job)],
        "stage": Stage(job.ready).name,
        "error": job.error,
        "attempts": [asdict(attempt) | {"stage": attempt.stage.name} for attempt in line.attempts],
        "segments": line.segments,
        "downloads": line.downloads,
        "seconds": {stage.name: round(value, 3) for stage, value in line.seconds.items()},
        "encoder": line.facts.get("encoder"),
        "bytes_before": line.facts.get("source_bytes"),
        "bytes_after": line.facts.get("bytes"),
        "file": job.output_file,
        "completed_at": job.completed_at.isoformat() if job.completed_at else None,
    }
