"""Bad input gets a clear error, before any SQL, and changes nothing; the same on both dialects."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from pandora_db import InvalidInput, Job, JobDb, Preset, UnknownCode
from pandora_db.models.limits import MAX_BULK, MAX_JSON
from pandora_db.testing import make_job

if TYPE_CHECKING:
    from tests.support.raw import Raw

NAIVE = datetime.fromisoformat("2026-01-01 00:00:00")
# Arguments of `Job`, what the message says was wrong, and what it says is expected.
BAD_JOBS: list[tuple[dict[str, Any], str, str]] = [
    ({"author": "a\0b"}, "author is text with a NUL character at position 1", "without NUL"),
    ({"author": "a\ud800"}, "author is text with a lone surrogate at position 1", "surrogates"),
    ({"author": ""}, "author is an empty text", "1 to 256 characters"),
    ({"author": "x" * 257}, "author is a text of 257 characters", "1 to 256 characters"),
    ({"author": None}, "author is None", "1 to 256 characters"),
    ({"link": "x" * 8193}, "link is a text of 8193 characters", "at most 8192"),
    ({"directory": "d" * 4097}, "directory is a text of 4097 characters", "at most 4096"),
    ({"job_id": -1}, "job_id is -1", "an int from 0 to 2^63-1"),
    ({"job_id": 2**63}, "job_id is 9223372036854775808", "an int from 0 to 2^63-1"),
    ({"job_id": True}, "job_id is True (a bool)", "an int from 0"),
    ({"job_id": "7"}, "job_id is a text of 1 character", "an int from 0"),
    ({"job_id": 7.0}, "job_id is 7.0 (a float)", "an int from 0"),
    ({"message_id": 2**64}, "message_id is", "an int from 0 to 2^63-1"),
    ({"channel_id": -5}, "channel_id is -5", "an int from 0 to 2^63-1"),
    ({"author_id": 10**40}, "an int of more than 70 bits", "an int from 0 to 2^63-1"),
    ({"guild_id": b"1"}, "guild_id is a value of type bytes", "an int from 0 to 2^63-1"),
    ({"requested_at": NAIVE}, "2026-01-01 00:00:00 without time zone", "an aware datetime"),
    ({"requested_at": -1}, "requested_at is -1", "0 to 253402300799"),
    ({"requested_at": 1.5}, "requested_at is 1.5", "an aware datetime or whole unix seconds"),
    ({"ready": 42}, "ready 42 is unknown", "known are 0 Stage.QUEUED, 1 Stage.DOWNLOADING"),
    ({"job_type": 2}, "2 is unknown", "1 ENCODE"),
    ({"preset": 1}, "preset is 1", "a Preset, such as Preset.STANDARD"),
    ({"priority": 32768}, "priority is 32768", "an int from -32767 to 32767"),
    ({"external_id": ""}, "external_id is an empty text", "1 to 256 characters"),
    ({"idempotency_key": "\0"}, "idempotency_key is text with a NUL", "1 to 256 characters"),
    ({"config": {"a": {"b": "\0"}}}, "config.a.b is text with a NUL", "without NUL"),
    ({"config": {"a\ud800": 1}}, "a key of config is text with a lone surrogate", "surrogates"),
    ({"config": {"a": [float("nan")]}}, "config.a[0] is nan", "a finite float"),
    ({"config": {"a": 2**63}}, "config.a is 9223372036854775808", "an int of 64 bits"),
    ({"config": {1: 2}}, "a key of config is 1", "expected text"),
    ({"config": {"a": object()}}, "config.a is a value of type object", "expected JSON"),
    ({"config": {"a": "x" * MAX_JSON}}, "bytes", "expected at most 1048576"),
    ({"config": [1]}, "config is a value of type list", "a dict with text keys"),
    ({"name": ""}, "name is an empty text", "1 to 256 characters"),
    ({"tags": "gpu"}, "tags is a text of 3 characters", "at most 32 texts"),
    ({"tags": ["x" * 65]}, "tags is a text of 65 characters", "1 to 64 characters"),
    ({"tags": list("abcdefghijklmnopqrstuvwxyzABCDEFG")}, "tags has more than 32", "32"),
    ({"concurrency_key": "\0"}, "concurrency_key is text with a NUL", "1 to 256 characters"),
    ({"not_before": NAIVE}, "2026-01-01 00:00:00 without time zone", "an aware datetime or unix"),
    ({"not_before": float("nan")}, "not_before is nan", "unix seconds"),
    ({"max_attempts": 0}, "max_attempts is 0", "an int from 1 to 32767"),
    ({"params": b"x" * (2**20 + 1)}, "params is a value of type bytes, 1048577 long", "at most"),
    ({"params": "x"}, "params is a text of 1 character", "at most 1048576 bytes of MessagePack"),
    ({"params": bytearray(1)}, "params is a value of type bytearray", "at most 1048576 bytes"),
    ({"autor": "mika"}, "Job has no field 'autor'", "did you mean author?"),
]


@pytest.mark.parametrize(("arguments", "wrong", "expected"), BAD_JOBS)
def test_a_job_that_cannot_be_stored_is_refused_at_once(
    arguments: dict[str, Any], wrong: str, expected: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        Job(**{"author": "mika", **arguments})

    assert wrong in str(caught.value)
    assert expected in str(caught.value)
    assert caught.value.field == next(iter(arguments))


def test_an_unknown_code_tells_the_number() -> None:
    with pytest.raises(UnknownCode) as caught:
        Job(author="mika", ready=42)

    assert caught.value.code == 42


CALLS: list[tuple[str, dict[str, Any], str]] = [
    ("insert_job", {"job": {"author": "mika"}}, "takes a Job, not dict"),
    ("insert_job", {"job": None}, "takes a Job, not NoneType"),
    ("insert_jobs", {"jobs": make_job()}, "; expected several Jobs; insert_job() takes one"),
    ("insert_jobs", {"jobs": [make_job(), "x"]}, "jobs[1] is str, not a Job"),
    ("insert_jobs", {"jobs": [make_job()] * (MAX_BULK + 1)}, "more than 1000000 jobs"),
    ("update_stage", {"job_id": -1, "stage": 1}, "job_id is -1; expected an int from 0 to 2^63-1"),
    ("update_stage", {"job_id": 1, "stage": 42}, "stage 42 is unknown; known are 0 Stage.QUEUED"),
    ("update_stage", {"job_id": 1, "stage": True}, "stage is True (a bool); expected a Stage"),
    ("update_stage", {"job_id": 1, "stage": "3"}, "stage is a text of 1 character"),
    ("update_stage", {"job_id": 1, "stage": Preset.GPU}, "stage is a value of type Preset"),
    ("archive_job", {"job_id": 2**63}, "job_id is 9223372036854775808"),
    ("archive_job", {"job_id": None}, "job_id is None"),
    ("retry_job", {"job_id": "1"}, "job_id is a text"),
    ("requeue_job", {"job_id": 1.0}, "job_id is 1.0 (a float)"),
    ("cancel_job", {"job_id": False}, "job_id is False (a bool)"),
    ("decline_job", {"job_id": -7}, "job_id is -7"),
    ("decline_job", {"job_id": 1, "reason": 7}, "reason is 7"),
    ("delete_job", {"job_id": 10**30}, "job_id is an int of more than 70 bits"),
    ("update_job", {"job_id": -1, "priority": 1}, "job_id is -1"),
    ("update_job", {"job_id": 1, "progress": 1.01}, "progress is 1.01 (a float); expected a numb"),
    ("update_job", {"job_id": 1, "progress": float("nan")}, "progress is nan"),
    ("update_job", {"job_id": 1, "progress": "0.5"}, "progress is a text"),
    ("update_job", {"job_id": 1, "priority": -32768}, "priority is -32768"),
    ("update_job", {"job_id": 1, "message_id": -1}, "message_id is -1"),
    ("update_job", {"job_id": 1, "directory": "a\0"}, "directory is text with a NUL"),
    ("update_job", {"job_id": 1, "current_step": "x" * 257}, "current_step is a text of 257"),
    ("update_job", {"job_id": 1, "output_kind": "\ud800"}, "output_kind is text with a lone"),
    ("update_job", {"job_id": 1, "output_file": "x" * 4097}, "output_file is a text of 4097"),
    ("update_job", {"job_id": 1, "output": {"a": float("inf")}}, "output.a is inf"),
    ("update_job", {"job_id": 1, "progress_data": {"a": b""}}, "progress_data.a is a value of"),
    ("update_job", {"job_id": 1, "error": 5}, "error is 5; expected text or an exception"),
    ("update_job", {"job_id": 1, "config": [1]}, "config is a value of type list; expected a dict"),
    ("update_job", {"job_id": 1, "author": "x"}, "does not set author"),
    ("update_job", {"job_id": 1, "tags": None}, "tags cannot be cleared; give a value"),
    ("update_job", {"job_id": 1, "not_before": True}, "not_before is True (a bool)"),
    ("claim_job", {"job_id": -1, "into": 3}, "job_id is -1"),
    ("claim_job", {"job_id": 1, "into": 2}, "into is Stage.DOWNLOADED, where nobody works"),
    ("finish_job", {"claim": 1, "stage": 4}, "claim is 1; expected a Claim"),
    ("fail_job", {"claim": None, "error": "x"}, "claim is None; expected a Claim"),
    ("snooze_job", {"claim": "x", "seconds": 1}, "claim is a text"),
    ("release_job", {"claim": b""}, "claim is a value of type bytes"),
    ("save_checkpoint", {"claim": 1, "state": {}}, "claim is 1; expected a Claim"),
    ("load_checkpoint", {"job_id": "1", "stage": 3}, "job_id is a text"),
    ("load_checkpoint", {"job_id": 1, "stage": 4}, "stage is Stage.ENCODED, where nobody works"),
    ("load_checkpoint", {"job_id": 1, "stage": 3, "version": "1"}, "version is a text"),
    ("load_checkpoint", {"job_id": None}, "job_id is None; expected a Claim, as claim_jobs"),
    ("pause_job", {"job_id": None}, "job_id is None"),
    ("resume_job", {"job_id": 1.5}, "job_id is 1.5"),
    ("recover", {"unowned": True}, "unowned is True"),
    ("recover", {"wait": "1"}, "wait is a text"),
    ("set_recovery_policy", {"action": "drop", "name": "x"}, "action is a text"),
    ("set_recovery_policy", {"action": "fail", "name": ""}, "name is an empty text"),
    ("renew_claims", {"claims": [1]}, "claims is 1; expected a Claim"),
]


async def test_bad_arguments_are_refused_before_any_sql(
    db: JobDb, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.insert_job(make_job(job_id=1))
    before = raw("SELECT * FROM jobs"), raw("SELECT * FROM job_events")

    def no_sql(*_: object, **__: object) -> None:
        raise AssertionError("SQL was run")

    for name in ("read", "write", "take", "unit"):
        monkeypatch.setattr(db._driver, name, no_sql)
    for method, arguments, message in CALLS:
        with pytest.raises(InvalidInput) as caught:
            await getattr(db, method)(**arguments)
        assert message in str(caught.value), (method, str(caught.value))

    monkeypatch.undo()
    assert (raw("SELECT * FROM jobs"), raw("SELECT * FROM job_events")) == before


async def test_text_is_stored_as_it_is_whatever_it_says(db: JobDb) -> None:
    """No text is SQL, a pattern, a format or a parameter."""
    hostile = [
        "'; DROP TABLE jobs; --", '"; SELECT 1', "%s %d {schema} {job_columns} :job_id $1 ?1 ?",
        "\\", "\\N", "\t\n\r", "a\x01\x7f", "NULL", "\u202e\u200b\ufeff", "e\u0301", "\U0001f4fc",
        "-- when: after", "$$ x $$", "%", "_", "\x85\u2028", " leading and trailing ",
    ]  # fmt: skip
    for text in hostile:
        job = make_job(
            author=text, link=text, directory=text, external_id=text, idempotency_key=text,
            config={text: [text]},
        )  # fmt: skip
        job_id = await db.insert_job(job)
        (bulk,) = await db.insert_jobs(
            [job.model_copy(update={"external_id": None, "idempotency_key": None})]
        )
        await db.update_job(job_id, error=text, current_step=text, output={text: text})
        for row in await db.get_jobs_by_ids([job_id, bulk]):
            data = row.to_job_metadata()
            assert (row.author, row.link, row.directory) == (text, text, text)
            assert data.config == {text: [text]}
        assert len(await db.get_user_history(text)) == 2
        assert await db.count_jobs(author=text) == 2
        assert (await db.get_jobs(author=text))[-1].error == text
    assert await db.count_jobs() == 2 * len(hostile)


async def test_the_ends_of_every_range_are_stored(db: JobDb) -> None:
    for job in (
        make_job(author="x" * 256, link="ü" * 8192, directory="d" * 4096, job_id=2**63 - 1),
        make_job(message_id=2**63 - 1, channel_id=0, author_id=0, guild_id=2**63 - 1, job_id=0),
        make_job(requested_at=0, priority=-32767),
        make_job(requested_at=datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), priority=32767),
        make_job(config={"a": "ü" * 500_000}),
    ):
        job_id = await db.insert_job(job)
        row = await db.get_job(job_id)
        assert row is not None
        data = row.to_job_metadata()
        for field in set(Job.model_fields) - {"job_id", "requested_at", "directory"}:
            assert getattr(data, field) == getattr(job, field), field
        if job.requested_at is not None:
            assert row.requested_at == job.requested_at
            assert data.requested_at.timestamp() == job.requested_at
