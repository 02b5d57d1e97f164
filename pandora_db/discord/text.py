"""Jobs in the words of a Discord message."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from pandora_db.codecs.checks import check_int, check_progress
from pandora_db.models.status import Hold, JobStatus

if TYPE_CHECKING:
    from pandora_db.models.job_row import JobRow

MAX_CONTENT = 2000
"""Characters that Discord takes in the content of a message."""
_WORDS = ("next", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth")
# What was asked of a job that is worked on.
_ASKED = {Hold.PAUSE.value: " is being paused", Hold.CANCEL.value: " is being cancelled"}
_MAX_WIDTH = 100
_MAX_STEP = 300
_MARKS = "\\*_~`|["  # the backslash first: the others get one


def progress_bar(fraction: float, width: int = 20) -> str:
    """A bar such as `▰▰▰▰▰▱▱▱▱▱`; full only when `fraction` is 1.

    Raises:
        InvalidInput: `fraction` is not within 0 … 1, or `width` not within 1 … 100.
    """
    check_progress(fraction)
    check_int(width, "width", 1, _MAX_WIDTH)
    filled = int(fraction * width)
    return "▰" * filled + "▱" * (width - filled)


def render_job(job: JobRow, position: int | None = None, *, width: int = 20) -> str:
    """The lines of a message about a job: what it does, how far it is, how it ended.

    Of one that waits for its next attempt, or for its time, they say when that is.

    Args:
        job: the job as it is stored.
        position: where it stands in the queue, as `queue_position` says; None leaves that out.
        width: of the bar, in characters.

    Raises:
        UnknownCode: a stage that nobody knows.
        InvalidInput: `position` or `width` is out of range.
    """
    status, name = job.status, f"**Job {job.job_id}**"
    if status is JobStatus.QUEUED:
        if job.not_before is not None and job.not_before > time.time():
            # Discord shows it as "in 2 minutes", and counts on by itself.
            then = f"<t:{math.ceil(job.not_before)}:R>"
            return f"{name} is tried again {then}" if job.attempt else f"{name} goes on {then}"
        return f"{name} is queued" + ("" if position is None else f": you are {ordinal(position)}")
    if status is JobStatus.COMPLETED:
        return f"{name} is done"
    if status is JobStatus.FAILED:
        return f"{name} failed" + (f": {plain(job.error)}" if job.error else "")
    if status is JobStatus.CANCELLED:
        return f"{name} was cancelled"
    head = name + (" is paused" if status is JobStatus.PAUSED else _ASKED.get(job.hold, ""))
    lines = [f"{head}: {plain(job.current_step)}" if job.current_step else head]
    if job.progress is not None:
        lines.append(f"{progress_bar(job.progress, width)} {int(job.progress * 100)} %")
    return "\n".join(lines)


def ordinal(position: int) -> str:
    """A place in a queue in words: "next", "second", "third" … "21st"."""
    check_int(position, "position", 1, 2**63 - 1)
    if position <= len(_WORDS):
        return _WORDS[position - 1]
    teens = position % 100 in (11, 12, 13)
    ending = "th" if teens else {1: "st", 2: "nd", 3: "rd"}.get(position % 10, "th")
    return f"{position}{ending}"


def plain(text: str) -> str:
    """Text of a user or a program on one line, that mentions nobody and formats nothing."""
    line = " ".join(text.split())
    if len(line) > _MAX_STEP:
        line = f"{line[: _MAX_STEP - 1]}…"
    for mark in _MARKS:
        line = line.replace(mark, f"\\{mark}")
    # An invisible character keeps @everyone and <@1> from being mentions.
    return line.replace("@", "@\u200b").replace("<", "<\u200b")


def fit(content: str) -> str:
    """As much of `content` as a message takes."""
    return content if len(content) <= MAX_CONTENT else f"{content[: MAX_CONTENT - 1]}…"
