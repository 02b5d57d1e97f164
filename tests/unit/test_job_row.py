"""Stored rows and what is decoded from them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import get_type_hints
from uuid import uuid4

import pytest

from pandora_db.errors import InvalidInput, UnknownCode
from pandora_db.models import (
    EventKind,
    Health,
    Hold,
    JobEvent,
    JobRow,
    JobStatus,
    JobType,
    PoolUse,
    Preset,
    SchemaDifference,
    SchemaPlan,
    SchemaStep,
    Stage,
    TaskStage,
)

AT = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
BIG = 2**60 + 1
ROW = JobRow(
    7, "mika", 1_795_176_000, 1, 3, 1, "l", "/srv/7", 3, BIG, 2, AT, None, False
)  # fmt: skip


def test_order_of_the_columns() -> None:
    assert " ".join(JobRow._fields) == (
        "job_id author requested_at job_type preset preset_concat link directory ready "
        "message_id channel_id created_at completed_at archived author_id guild_id external_id "
        "idempotency_key priority attempt hold progress progress_data current_step output_kind "
        "output output_file error config updated_at name tags concurrency_key not_before "
        "max_attempts params"
    )


def test_metadata_is_decoded() -> None:
    row = ROW._replace(
        config='{"crf": 20}', output="[1]", progress_data="1.5", hold=1, author_id=BIG
    )
    metadata = row.to_job_metadata()
    assert metadata.requested_at == AT
    assert metadata.requested_at.tzinfo is UTC
    assert (metadata.job_type, metadata.preset) == (JobType.ENCODE, Preset.CONCAT_SOME_SUBS)
    assert (metadata.ready, metadata.status) == (Stage.ENCODING, JobStatus.RUNNING)
    assert metadata.directory == Path("/srv/7")
    assert (metadata.config, metadata.output, metadata.progress_data) == ({"crf": 20}, [1], 1.5)
    assert metadata.hold is Hold.PAUSE
    assert set(type(metadata).model_fields) - set(JobRow._fields) == {"status"}
    assert set(JobRow._fields) - set(type(metadata).model_fields) == {"preset_concat"}


def test_json_output_has_ids_as_text_and_enums_by_name() -> None:
    dumped = json.loads(ROW._replace(author_id=BIG).to_job_metadata().model_dump_json())
    assert (dumped["job_id"], dumped["message_id"], dumped["author_id"]) == (
        "7",
        str(BIG),
        str(BIG),
    )
    assert dumped["guild_id"] is None
    assert (dumped["preset"], dumped["ready"], dumped["status"]) == (
        "CONCAT_SOME_SUBS",
        "ENCODING",
        "running",
    )
    assert dumped["directory"] == "/srv/7"
    python = ROW.to_job_metadata().model_dump()
    assert python["job_id"] == 7
    assert python["ready"] is Stage.ENCODING


def test_no_directory_is_none_and_never_the_current_one() -> None:
    assert ROW._replace(directory="").to_job_metadata().directory is None


def test_rows_of_another_program_stay_readable() -> None:
    nulls = ROW._replace(
        author=None, link=None, directory=None, message_id=None, channel_id=None, archived=None
    )
    metadata = nulls.to_job_metadata()
    assert (metadata.author, metadata.link, metadata.message_id) == ("", "", 0)
    assert metadata.archived is False
    assert ROW._replace(job_id=-5, message_id=-1).to_job_metadata().job_id == -5


@pytest.mark.parametrize(
    "change",
    [{"ready": 42}, {"preset": 9}, {"preset_concat": None}, {"job_type": 0}, {"hold": 9}],
)
def test_unknown_codes_raise_when_decoded(change: dict[str, int]) -> None:
    row = ROW._replace(**change)
    with pytest.raises(UnknownCode):
        row.to_job_metadata()
    assert str(row).startswith("job 7")


@pytest.mark.parametrize(
    "change",
    [
        {"requested_at": 10**18},
        {"requested_at": -(10**18)},
        {"requested_at": None},
        {"config": "[]"},
        {"config": "{"},
        {"output": ""},
    ],
)
def test_what_cannot_be_decoded_is_named(change: dict[str, object]) -> None:
    with pytest.raises(InvalidInput) as caught:
        ROW._replace(**change).to_job_metadata()  # type: ignore[arg-type]
    assert caught.value.field == next(iter(change))


@pytest.mark.parametrize(
    ("ready", "hold", "status"),
    [
        (0, 0, JobStatus.QUEUED),
        (2, 1, JobStatus.PAUSED),
        (3, 1, JobStatus.RUNNING),
        (3, 2, JobStatus.RUNNING),
        (5, 0, JobStatus.RUNNING),
        (6, 0, JobStatus.COMPLETED),
        (7, 1, JobStatus.FAILED),
        (8, 0, JobStatus.CANCELLED),
        (9, 0, JobStatus.CANCELLED),
    ],
)
def test_status(ready: int, hold: int, status: JobStatus) -> None:
    assert ROW._replace(ready=ready, hold=hold).status is status


def test_status_of_an_unknown_stage() -> None:
    with pytest.raises(UnknownCode):
        _ = ROW._replace(ready=20).status


def test_key_and_text() -> None:
    assert ROW.key == (1_795_176_000, 7)
    assert str(ROW._replace(progress=0.425, archived=True)) == (
        "job 7 · by mika · Encoding · 42% · archived"
    )
    assert str(ROW._replace(ready=42)) == "job 7 · by mika · stage 42"


@pytest.mark.parametrize(
    ("ready", "attempt", "text"),
    [
        (0, 0, "Queued · 50%"),  # there is no earlier stage: it goes on from there
        (2, 0, "Downloaded"),
        (2, 1, "Downloaded · 50%"),  # its encode was tried, and waits for another attempt
        (3, 1, "Encoding · 50%"),
        (6, 0, "Uploaded"),
        (7, 1, "Failed · 50%"),
        (42, 0, "stage 42 · 50%"),
    ],
)
def test_the_progress_of_an_earlier_stage_is_not_in_its_text(
    ready: int, attempt: int, text: str
) -> None:
    row = ROW._replace(ready=ready, attempt=attempt, progress=0.5)
    assert str(row) == f"job 7 · by mika · {text}"


@pytest.mark.parametrize(
    ("ready", "hold", "text"),
    [
        (2, Hold.PAUSE, "Downloaded · paused"),
        (3, Hold.PAUSE, "Encoding · to be paused"),
        (3, Hold.CANCEL, "Encoding · to be cancelled"),
        (42, Hold.PAUSE, "stage 42 · paused"),
        (2, 9, "Downloaded · hold 9"),
    ],
)
def test_what_was_asked_of_a_job_is_in_its_text(ready: int, hold: int, text: str) -> None:
    assert str(ROW._replace(ready=ready, hold=hold)) == f"job 7 · by mika · {text}"


def test_the_error_of_a_job_is_in_its_text_by_its_beginning() -> None:
    failed = ROW._replace(ready=7, error="OSError: no space left\non /srv")
    assert str(failed) == "job 7 · by mika · Failed · OSError: no space left"
    assert str(failed._replace(error="x" * 81)).endswith(f"Failed · {'x' * 80}…")


@pytest.mark.parametrize("record", [JobRow, JobEvent])
def test_type_hints_resolve(record: type) -> None:
    assert get_type_hints(record)


def test_event_text() -> None:
    event = JobEvent(7, 3, AT, EventKind.STAGE, 3, 1, "worker-1", uuid4(), "override", 2)
    assert str(event) == (
        "job 7 #3 2026-11-20 12:00:00+00:00 stage Downloaded → Encoding in attempt 1 by worker-1 "
        "(override)"
    )
    assert str(JobEvent(7, 1, AT, EventKind.CANCEL_REQUESTED)) == (
        "job 7 #1 2026-11-20 12:00:00+00:00 cancel requested"
    )
    assert str(event._replace(stage=42, previous=None, owner=None, detail=None)).endswith(
        "stage 42"
    )


def test_schema_texts() -> None:
    assert str(SchemaDifference("index", "idx_jobs_ready", "(ready)")) == (
        "index idx_jobs_ready is missing (expected: (ready))"
    )
    assert "is not expected" in str(SchemaDifference("column", "jobs.x", None, "TEXT"))
    assert "expected A, found B" in str(SchemaDifference("trigger", "t", "A", "B"))
    step = SchemaStep(1, "jobs", ("CREATE TABLE jobs ()",), "nothing that exists", 0.05)
    plan = SchemaPlan("postgres", 0, 1, (step,))
    assert plan.pending
    assert "0001 jobs: 1 statement, locks nothing that exists for about 0.05 s" in str(plan)
    assert "CREATE TABLE jobs ()" in str(plan)
    assert "nothing to do" in str(SchemaPlan("sqlite", 1, 1))


def test_health() -> None:
    health = Health(
        dialect="sqlite",
        server_version="3.51.3",
        driver_version="aiosqlite 0.22.1",
        schema_version=1,
        known_schema_version=1,
        durable=True,
        durability="WAL, synchronous=FULL",
        pool=PoolUse(size=2, idle=1, max=2),
    )
    assert health.ok
    assert str(health) == (
        "sqlite 3.51.3, schema 1 of 1, WAL, synchronous=FULL, 2 of 2 connections open"
    )
    sick = health.model_copy(update={"warnings": ["old"], "integrity": ["page 3"]})
    assert not sick.ok
    assert str(sick).splitlines()[1:] == ["warning: old", "damage: page 3"]


def test_rows_and_events_tell_their_stage_whatever_its_pipeline() -> None:
    row = JobRow(*["7" if name == "author" else None for name in JobRow._fields])
    for stage in (Stage.ENCODING, TaskStage.RUNNING):
        assert row._replace(ready=stage.value).stage is stage
        event = JobEvent(7, 1, AT, EventKind.CLAIMED, stage)
        assert event.stage_name == stage.name.capitalize()
    assert JobEvent(7, 1, AT, EventKind.CLAIMED, 30_000).stage_name == "stage 30000"
    with pytest.raises(UnknownCode, match=r"^stage 30000 is unknown"):
        _ = row._replace(ready=30_000).stage
    with pytest.raises(UnknownCode, match=r"^stage 101 is unknown; .*; 101 is TaskStage\.RUNNING"):
        Stage(TaskStage.RUNNING)
