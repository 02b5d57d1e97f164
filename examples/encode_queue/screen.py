"""What the user watches: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from examples.encode_queue.facts import PRESET_NAMES, title
from pandora_db import JobRow, Stage

_COLOURS = {Stage.UPLOADED: "green", Stage.FAILED: "red"}


class Screen(Protocol):
    """Shows jobs as they move; `with` it."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def note(self, text: str) -> None:
        """Say something about the run."""

    def add(self, job: JobRow) -> None:
        """A job is in the queue."""

    def stage(self, job_id: int, stage: Stage, overall: float | None, reason: str = "") -> None:
        """A job has moved to `stage`; `overall` is how far it is, 0 to 1."""

    def progress(self, job_id: int, overall: float, words: str) -> None:
        """A job at work is `overall` done."""


class PlainScreen:
    """One line for each change of stage; for pipes, files and logs."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begin = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._out.flush()

    def note(self, text: str) -> None:
        print(f"{time.monotonic() - self._begin:6.1f} s  {text}", file=self._out, flush=True)

    def add(self, job: JobRow) -> None:
        pass

    def stage(self, job_id: int, stage: Stage, overall: float | None, reason: str = "") -> None:
        del overall
        self.note(f"job {job_id}: {stage.name.capitalize()}{' - ' + reason if reason else ''}")

    def progress(self, job_id: int, overall: float, words: str) -> None:
        pass


class BarScreen:
    """A bar for each job, and the bot's words above them."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("[bold]{task.fields[number]:>4}"),
            TextColumn("{task.fields[author]:<7}"),
            TextColumn("{task.fields[preset]:<15}", style="cyan"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            console=console,
            refresh_per_second=10,
        )
        self._tasks: dict[int, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        self._bars.console.print(escape(text), style="dim", highlight=False)

    def add(self, job: JobRow) -> None:
        task = self._bars.add_task(
            f"{Stage(job.ready).name.lower()}  [dim]{escape(title(job))}",
            total=1.0,
            number=job.job_id,
            author=escape(job.author),
            preset=PRESET_NAMES[job.to_job_metadata().preset],
        )
        self._bars.update(task, completed=job.progress)
        self._tasks[job.job_id] = task

    def stage(self, job_id: int, stage: Stage, overall: float | None, reason: str = "") -> None:
        colour = _COLOURS.get(stage, "default")
        short = reason.splitlines()[0][:34] if reason else ""
        words = f"[{colour}]{stage.name.lower()}[/]  [dim]{escape(short)}"
        self._bars.update(self._tasks[job_id], completed=overall, description=words)

    def progress(self, job_id: int, overall: float, words: str) -> None:
        self._bars.update(self._tasks[job_id], completed=overall, description=escape(words))


def choose_screen(*, json: bool) -> Screen:
    """Bars when a person is watching; with `json`, plain lines on stderr."""
    if not json and sys.stdout.isatty():
        return BarScreen(Console())
    return PlainScreen(sys.stderr if json else sys.stdout)
