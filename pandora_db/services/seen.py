"""What the reader of a handle hands to those who watch."""

from __future__ import annotations

from typing import NamedTuple

from pandora_db.drivers.base import Row
from pandora_db.errors import UnknownCode
from pandora_db.models.cursor import EventPlace
from pandora_db.models.event import EventKind, JobEvent


class Seen(NamedTuple):
    """An event with the guild of its job and its place in a window."""

    event: JobEvent
    guild_id: int | None
    place: EventPlace


def decode(row: Row) -> Seen:
    """A row of `watch_events`."""
    job_id, values = row[0], row[1:10]
    try:
        event = JobEvent.decode(job_id, values)
    except UnknownCode:  # of a newer pandora_db: a watcher must not stand still before it
        event = JobEvent.decode(job_id, values, kind=EventKind.RECORDED)
    return Seen(event, row[10], (row[11], job_id, row[12], event.seq))
