"""The words of the bot."""

from __future__ import annotations

import json

from discord.utils import escape_markdown, escape_mentions

from examples.encode_queue.facts import PRESET_NAMES, title
from pandora_db import JobEvent, JobRow, JobStatus, Stage
from pandora_db.discord import render_job

_TITLE = 100
_MARKS = {
    JobStatus.QUEUED: "⏳",
    JobStatus.RUNNING: "⚙️",
    JobStatus.PAUSED: "⏸️",
    JobStatus.COMPLETED: "✅",
    JobStatus.FAILED: "❌",
    JobStatus.CANCELLED: "🚫",
}


def safe(text: str) -> str:
    """Words of a user: they format nothing and mention nobody."""
    short = text if len(text) <= _TITLE else f"{text[: _TITLE - 1]}…"
    return escape_mentions(escape_markdown(short))


def message_of(job: JobRow, position: int | None) -> str:
    """The message of a job, from its request to its end."""
    preset = PRESET_NAMES[job.to_job_metadata().preset]
    lines = [f"{safe(title(job))} · {preset} · <@{job.author_id}>", render_job(job, position)]
    if job.status is JobStatus.COMPLETED and job.output:
        output = json.loads(job.output)
        where = output.get("url") or "it is too large to be posted; ask for the file"
        lines.append(f"{int(output['bytes']) / 1e6:.1f} MB · {where}")
    return "\n".join(lines)


def line_of(job: JobRow) -> str:
    """A job in a list."""
    words = f"{_MARKS[job.status]} **{job.job_id}** {safe(title(job))} · {job.status.value}"
    if job.status is JobStatus.RUNNING and job.progress is not None:
        words += f", {int(job.progress * 100)} %"
    return f"{words} · <t:{job.requested_at}:R>"


def event_line(event: JobEvent) -> str:
    """A line of a job's history."""
    words = f"<t:{int(event.at.timestamp())}:T> {event.kind.name.lower().replace('_', ' ')}"
    if event.stage is not None:
        words += f", {Stage(event.stage).name.lower()}"
    if event.attempt:
        words += f", attempt {event.attempt}"
    return f"{words}: {safe(event.detail)}" if event.detail else words
