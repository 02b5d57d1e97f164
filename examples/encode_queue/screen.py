"""What the user watches: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Protocol, Self, TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from examples.encode_queue.facts import PRESET_NAMES, overall, preset_of, title
from pandora_db import JobRow, Stage, StageKind

_COLOURS = {Stage.UPLOADED: "green", Stage.FAILED: "red"}
_LEFT = 48  # columns of a line with a bar, without the words behind it


class Screen(Protocol):
    """Shows jobs as they move; `with` it."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def note(self, text: str) -> None:
        """Say something about the run."""

    def add(self, job: JobRow) -> None:
        """A job is there."""

    def stage(
        self, job_id: int, stage: Stage, done: float | None, words: str, reason: str = ""
    ) -> None:
        """A job has come to `stage`; `done` is how far it is, 0 to 1, `words` say more."""

    def progress(self, job_id: int, done: float | None, words: str) -> None:
        """A job at work is `done` so far."""


class PlainScreen:
    """One line for each piece of work begun and each end; for pipes, files and logs."""

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

    def stage(
        self, job_id: int, stage: Stage, done: float | None, words: str, reason: str = ""
    ) -> None:
        del done
        if stage.kind is not StageKind.WAITING:
            self.note(f"job {job_id}: {words}{' - ' + reason if reason else ''}")

    def progress(self, job_id: int, done: float | None, words: str) -> None:
        pass


class BarScreen:
    """A bar for each job, and all that is said above them; 80 columns are enough."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            TextColumn("[bold]{task.fields[number]:>3}"),
            TextColumn("{task.fields[author]:<6}"),
            TextColumn("{task.fields[preset]:<15}", style="cyan"),
            BarColumn(bar_width=14),
            TaskProgressColumn(),
            TextColumn("{task.description}"),
            console=console,
            refresh_per_second=10,
        )
        self._tasks: dict[int, TaskID] = {}

    def _words(self, words: str, more: str = "", colour: str = "default") -> str:
        """What stands behind the bar, cut to the room there; else all columns would shrink."""
        room = max(self._bars.console.width - _LEFT, 0)
        words = _cut(words, room)
        more = _cut(f"  {more}", room - len(words)) if more else ""
        return f"[{colour}]{escape(words)}[/]" + (f"[dim]{escape(more)}[/]" if more else "")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        self._bars.console.print(escape(text), style="dim", highlight=False)

    def add(self, job: JobRow) -> None:
        task = self._bars.add_task(
            self._words(Stage(job.ready).name.lower(), title(job)),
            total=1.0,
            number=job.job_id,
            author=escape(job.author[:6]),
            preset=PRESET_NAMES[preset_of(job)],
        )
        self._bars.update(task, completed=overall(Stage(job.ready)))
        self._tasks[job.job_id] = task

    def stage(
        self, job_id: int, stage: Stage, done: float | None, words: str, reason: str = ""
    ) -> None:
        if stage is not Stage.QUEUED:  # there the title stands
            description = self._words(words, reason, _COLOURS.get(stage, "default"))
            self._bars.update(self._tasks[job_id], completed=done, description=description)

    def progress(self, job_id: int, done: float | None, words: str) -> None:
        self._bars.update(self._tasks[job_id], completed=done, description=self._words(words))


def _cut(text: str, room: int) -> str:
    """At most `room` characters of it; an ellipsis says that there is more."""
    if len(text) <= room:
        return text
    return f"{text[: room - 1].rstrip()}…" if room > 0 else ""


def choose_screen(*, json: bool) -> Screen:
    """Bars when a person is watching; with `json`, plain lines on stderr."""
    if not json and sys.stdout.isatty():
        return BarScreen(Console())
    return PlainScreen(sys.stderr if json else sys.stdout)
