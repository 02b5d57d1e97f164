"""Jobs with messages, as rows that are nowhere stored."""

from __future__ import annotations

from typing import Any

from pandora_db import JobRow, Stage


def row(job_id: int, **columns: Any) -> JobRow:
    """A job at ENCODING with these columns."""
    return JobRow(
        job_id=job_id, author="mika", requested_at=0, job_type=1, preset=0, preset_concat=None,
        link="", directory="", ready=Stage.ENCODING.value, message_id=0, channel_id=0,
        created_at=None, completed_at=None, archived=False,
    )._replace(**columns)  # fmt: skip
