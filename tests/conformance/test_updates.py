"""Changing the free columns of a job, on both dialects."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pandora_db import EventKind, InvalidInput, JobDb, JobRow, Stage
from pandora_db.models.limits import MAX_ERROR
from pandora_db.store.job_updates import JobChanges
from pandora_db.testing import make_job


async def row_of(db: JobDb, job_id: int) -> JobRow:
    row = await db.get_job(job_id)
    assert row is not None
    return row


async def kinds_of(db: JobDb, job_id: int) -> list[EventKind]:
    return [event.kind for event in await db.history(job_id)]


CHANGES: dict[str, Any] = {
    "author_id": 2**63 - 1,
    "guild_id": 0,
    "message_id": 5,
    "channel_id": 2**62,
    "priority": 32767,
    "directory": "/srv/ä",
    "progress": 0.1,
    "progress_data": {"frame": [1, 2.5, None, "ü"]},
    "current_step": "pass 2",
    "output_kind": "file",
    "output": ["a", {"b": 2**62}],
    "output_file": "/out/x.mkv",
    "error": "ffmpeg exited with code 1",
    "config": {"crf": 18},
    "tags": ["disk", "gpu"],
    "concurrency_key": "guild 7",
    "not_before": 4e9,
    "max_attempts": 3,
}
ALWAYS_SET = {"message_id", "channel_id", "priority", "directory", "tags"}


async def test_update_job_changes_one_column_and_no_other(db: JobDb) -> None:
    assert set(CHANGES) == set(JobChanges.__annotations__)
    for field, value in CHANGES.items():
        job_id = await db.insert_job(make_job(author_id=1, guild_id=1, config={"crf": 1}))
        before = await row_of(db, job_id)

        await db.update_job(job_id, **{field: value})

        after = await row_of(db, job_id)
        stored = getattr(after, field)
        read = (
            json.loads(stored) if field in {"progress_data", "output", "config", "tags"} else stored
        )
        assert read == value
        assert getattr(before, field) != stored
        assert after.updated_at is not None
        assert before.updated_at is not None
        assert after.updated_at >= before.updated_at
        same = before._replace(updated_at=after.updated_at, **{field: stored})
        assert after == same


async def test_update_job_clears_a_column_with_none(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())
    await db.update_job(job_id, **CHANGES)
    for field in CHANGES.keys() - ALWAYS_SET:
        full = await row_of(db, job_id)

        await db.update_job(job_id, **{field: None})

        cleared = await row_of(db, job_id)
        assert getattr(full, field) is not None
        assert cleared == full._replace(updated_at=cleared.updated_at, **{field: None})


async def test_update_job_does_not_clear_what_always_has_a_value(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())
    before = await row_of(db, job_id)

    for field in ALWAYS_SET:
        with pytest.raises(InvalidInput, match=f"{field} cannot be cleared"):
            await db.update_job(job_id, **{field: None})

    assert await row_of(db, job_id) == before


async def test_update_job_records_what_changed_except_progress(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())

    await db.update_job(job_id, progress=0.5, progress_data={"frame": 1}, current_step="x")
    assert await kinds_of(db, job_id) == [EventKind.INSERTED]

    await db.update_job(job_id, priority=5, error="slow", progress=0.6)
    last = (await db.history(job_id))[-1]
    assert (last.seq, last.kind, last.detail) == (2, EventKind.UPDATED, "error, priority")


async def test_update_job_refuses_unknown_columns_and_nothing_at_all(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())

    with pytest.raises(InvalidInput, match="does not set ready; it sets author_id"):
        await db.update_job(job_id, ready=3)  # type: ignore[call-arg]
    with pytest.raises(InvalidInput, match="nothing to set"):
        await db.update_job(job_id)

    assert (await row_of(db, job_id)).ready == Stage.QUEUED


async def test_update_job_cuts_an_error_and_makes_it_storable(db: JobDb) -> None:
    job_id = await db.insert_job(make_job())

    await db.update_job(job_id, error=ValueError("a\0b\ud800" + "x" * 20_000))

    error = (await row_of(db, job_id)).error
    assert error is not None
    assert error.startswith("ValueError: a\\x00b\\ud800xxx")
    assert len(error) == MAX_ERROR
    assert "20024" in error
