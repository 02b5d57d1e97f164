"""What `Job` takes, keeps and refuses."""

from __future__ import annotations

import copy
import inspect
import pickle
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from pandora_db import Backoff, Limits, Settings
from pandora_db.codecs.job import JOB_COLUMNS, encode_job, job_row
from pandora_db.errors import InvalidInput, UnknownCode
from pandora_db.models import Concat, Job, JobType, Preset, Stage
from pandora_db.models.limits import MAX_ID, MAX_JSON, MAX_SECONDS

NOW = datetime(2026, 11, 20, 13, 37, 59, 999_999, tzinfo=UTC)

REFUSED: list[tuple[str, object]] = [
    ("author", ""),
    ("author", "a" * 257),
    ("author", "a\0b"),
    ("author", "a\ud800"),
    ("author", b"mika"),
    ("author", None),
    ("author", 7),
    ("link", "x" * 8193),
    ("link", "\0"),
    ("link", None),
    ("link", Path("x")),
    ("preset", 1),
    ("preset", (1, None)),
    ("preset", "STANDARD"),
    ("preset", None),
    ("job_type", True),
    ("job_type", "1"),
    ("job_type", 1.0),
    ("job_id", -1),
    ("job_id", MAX_ID + 1),
    ("job_id", 2**200),
    ("job_id", True),
    ("job_id", "12"),
    ("job_id", 12.0),
    ("ready", True),
    ("ready", "0"),
    ("ready", 0.0),
    ("ready", None),
    ("message_id", None),
    ("message_id", -1),
    ("message_id", False),
    ("channel_id", 2**63),
    ("channel_id", "1"),
    ("directory", "d" * 4097),
    ("directory", Path("a\0b")),
    ("directory", "\udfff"),
    ("directory", b"/srv"),
    ("directory", None),
    ("requested_at", NOW.replace(tzinfo=None)),
    ("requested_at", datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ("requested_at", datetime.min.replace(tzinfo=UTC)),
    ("requested_at", -1),
    ("requested_at", MAX_SECONDS + 1),
    ("requested_at", 1.5),
    ("requested_at", True),
    ("requested_at", "2026-11-20T00:00:00Z"),
    ("author_id", 2**63),
    ("author_id", 1.0),
    ("guild_id", -5),
    ("external_id", ""),
    ("external_id", "x" * 257),
    ("external_id", 5),
    ("idempotency_key", "k\0"),
    ("idempotency_key", ""),
    ("priority", 32_768),
    ("priority", -32_768),
    ("priority", -32_769),
    ("priority", True),
    ("priority", None),
    ("config", []),
    ("config", "{}"),
    ("config", {1: 2}),
    ("config", {"a\0": 1}),
    ("config", {"\ud800": 1}),
    ("config", {"a": {"b": ["\0"]}}),
    ("config", {"a": ["\udead"]}),
    ("config", {"a": float("nan")}),
    ("config", {"a": [float("-inf")]}),
    ("config", {"a": 1e16}),
    ("config", {"a": 2**63}),
    ("config", {"a": -(2**63) - 1}),
    ("config", {"a": object()}),
    ("config", {"a": {1, 2}}),
    ("config", {"a": b"bytes"}),
    ("config", {"a": NOW}),
    ("config", {"a": "x" * MAX_JSON}),
]


def ids(case: tuple[str, object]) -> str:
    field, value = case
    return f"{field}-{type(value).__name__}-{str(value)[:12].encode('ascii', 'replace').decode()}"


@pytest.fixture(params=REFUSED, ids=[ids(case) for case in REFUSED])
def refused(request: pytest.FixtureRequest) -> tuple[str, Any]:
    case: tuple[str, Any] = request.param
    return case


def arguments(field: str, value: object) -> dict[str, Any]:
    return {"author": "mika", field: value}


def test_constructor_refuses(refused: tuple[str, Any]) -> None:
    field, value = refused
    with pytest.raises(InvalidInput) as caught:
        Job(**arguments(field, value))
    assert caught.value.field == field
    assert "expected" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, pydantic.ValidationError)


def test_model_validate_refuses(refused: tuple[str, Any]) -> None:
    field, value = refused
    with pytest.raises(InvalidInput) as caught:
        Job.model_validate(arguments(field, value))
    assert caught.value.field == field


def test_model_copy_refuses(refused: tuple[str, Any]) -> None:
    field, value = refused
    with pytest.raises(InvalidInput) as caught:
        Job(author="mika").model_copy(update={field: value})
    assert caught.value.field == field


def test_defaults() -> None:
    job = Job(author="mika")
    assert (job.link, job.preset, job.job_type, job.ready) == (
        "",
        Preset.STANDARD,
        JobType.ENCODE,
        Stage.QUEUED,
    )
    assert (job.job_id, job.requested_at, job.config, job.directory) == (None, None, None, "")
    assert job.message_id == job.channel_id == job.priority == 0


def test_bounds_and_paths_are_taken() -> None:
    assert Job(author="a", directory=Path("/srv/jobs/1")).directory == "/srv/jobs/1"
    job = Job(
        author="é" * 256,
        link="l" * 8192,
        directory="d" * 4096,
        job_id=MAX_ID,
        message_id=0,
        requested_at=MAX_SECONDS,
        priority=-32_767,
        external_id="x",
        idempotency_key="k" * 256,
    )
    assert job.job_id == MAX_ID
    assert job.requested_at == MAX_SECONDS
    assert Job(author="a", requested_at=0, job_id=0).requested_at == 0


@pytest.mark.parametrize(
    "zone", [UTC, timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-11))]
)
def test_aware_times_become_whole_seconds(zone: timezone) -> None:
    assert Job(author="a", requested_at=NOW.astimezone(zone)).requested_at == 1_795_181_879


def test_stage_and_type_may_be_given_as_numbers() -> None:
    job = Job.model_validate({"author": "a", "ready": 3, "job_type": 1})
    assert job.ready is Stage.ENCODING
    assert job.job_type is JobType.ENCODE


@pytest.mark.parametrize(("field", "code"), [("ready", 42), ("ready", -1), ("job_type", 2)])
def test_unknown_numbers(field: str, code: int) -> None:
    with pytest.raises(UnknownCode, match=f"{field} {code} is unknown; known are") as caught:
        Job(**arguments(field, code))
    assert (caught.value.field, caught.value.code) == (field, code)


def test_missing_author() -> None:
    with pytest.raises(InvalidInput, match=r"^author is missing; expected text of 1 to 256"):
        Job.model_validate({})


def test_misspelt_field_is_named_before_what_it_leaves_missing() -> None:
    with pytest.raises(InvalidInput, match=r"^Job has no field 'autor'; did you mean author") as e:
        Job.model_validate({"autor": "mika"})
    assert e.value.field == "autor"


def test_unknown_field_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"no field 'zzz'; known are author, link, preset"):
        Job.model_validate({"author": "a", "zzz": 1})


@pytest.mark.parametrize("value", [3, None, "text", [("author", "a")]])
def test_what_is_no_job_at_all(value: object) -> None:
    with pytest.raises(InvalidInput, match="Job cannot be read") as caught:
        Job.model_validate(value)
    assert caught.value.field is None


def test_json_input() -> None:
    assert Job.model_validate_json('{"author": "mika", "job_id": 5}').job_id == 5
    with pytest.raises(InvalidInput) as caught:
        Job.model_validate_json('{"author": "mika", "job_id": "5"}')
    assert caught.value.field == "job_id"
    with pytest.raises(InvalidInput, match="Invalid JSON"):
        Job.model_validate_json("")


def test_a_message_describes_text_and_does_not_echo_it() -> None:
    with pytest.raises(InvalidInput) as caught:
        Job(author="a", link="https://user:hunter2@example.com/\0")
    assert "hunter2" not in str(caught.value)
    assert "NUL character at position 33" in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_job_is_frozen() -> None:
    job = Job(author="mika")
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        job.author = "other"  # type: ignore[misc]


def test_copies_are_equal_and_changes_validated() -> None:
    job = Job(author="mika", config={"a": [1]}, requested_at=NOW)
    assert job.model_copy() == copy.deepcopy(job) == pickle.loads(pickle.dumps(job)) == job  # noqa: S301
    changed = job.model_copy(update={"priority": 5, "requested_at": NOW + timedelta(days=1)})
    assert (changed.priority, changed.config) == (5, {"a": [1]})
    assert changed.requested_at == 1_795_181_879 + 86_400
    assert job.priority == 0
    with pytest.raises(InvalidInput, match="no field 'prio'"):
        job.model_copy(update={"prio": 1})


def test_config_is_a_copy_of_what_was_given() -> None:
    inner = [1, 2]
    given_config: dict[str, Any] = {"a": inner, "t": (1, (2,))}
    job = Job(author="a", config=given_config)
    inner.append(3)
    given_config["b"] = 1
    assert job.config == {"a": [1, 2], "t": [1, [2]]}


def test_config_that_is_cyclic_deep_or_blown_up_is_refused_quickly() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: Any = 1
    for _ in range(65):
        deep = [deep]
    bomb: Any = "x"
    for _ in range(50):
        bomb = [bomb, bomb]
    for value in (cycle, deep, bomb, [cycle, cycle]):
        with pytest.raises(InvalidInput, match=r"nested too deep|too large") as caught:
            Job(author="a", config={"a": value})
        assert caught.value.field == "config"


def test_the_path_to_a_bad_config_value_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"^config\.crf\[1\]\.x is nan"):
        Job(author="a", config={"crf": [1, {"x": float("nan")}]})


def test_a_job_inside_another_model_takes_part_in_its_errors() -> None:
    class Request(BaseModel):
        job: Job

    assert Request.model_validate({"job": {"author": "mika"}}).job == Job(author="mika")
    with pytest.raises(pydantic.ValidationError):
        Request.model_validate({"job": {"author": ""}})


def test_encode_job() -> None:
    job = Job(
        author="mika",
        link="l",
        preset=Preset.concat(Concat.SOME_SUBS),
        job_id=1,
        ready=Stage.ENCODED,
        directory=Path("/d"),
        requested_at=NOW,
        config={"ä": 1.0},
    )
    columns = encode_job(job)
    assert (columns["preset"], columns["preset_concat"], columns["ready"]) == (3, 1, 4)
    assert columns["config"] == '{"ä":1.0}'
    assert type(columns["ready"]) is int
    assert type(columns["job_type"]) is int
    assert job_row(columns)[:6] == (1, "mika", int(NOW.timestamp()), JobType.ENCODE, 3, 1)
    assert set(columns) == set(JOB_COLUMNS)
    assert set(JOB_COLUMNS) == (set(Job.model_fields) | {"preset_concat"})


def test_encode_job_refuses_a_job_without_an_author() -> None:
    with pytest.raises(InvalidInput, match=r"author.*model_construct") as caught:
        encode_job(Job.model_construct(link="l"))

    assert caught.value.field == "author"


def test_encode_job_checks_a_config_that_was_changed_later() -> None:
    job = Job(author="a", config={})
    assert job.config is not None
    job.config["x"] = float("inf")
    with pytest.raises(InvalidInput, match=r"config\.x is inf"):
        encode_job(job)


@pytest.mark.parametrize(
    ("kind", "first"),
    [(Job, "author"), (Limits, "stage"), (Backoff, "first"), (Settings, "pool_min")],
)
def test_fields_are_given_by_name(kind: Any, first: str) -> None:
    told = f"{kind.__name__} takes its fields by name: {kind.__name__}({first}=…)"
    with pytest.raises(InvalidInput) as caught:
        kind(8)
    assert str(caught.value) == told


def test_the_signature_shows_plain_types() -> None:
    shown = str(inspect.signature(Job))
    assert shown.startswith("(*, author: str, link: str = '', preset: ")
    assert "guild_id: int | None = None" in shown
    assert "tags: tuple[str, ...] = ()" in shown
    assert "Annotated" not in shown
    assert "schema: str = 'public'" in str(inspect.signature(Settings))


texts = st.text(st.characters(), max_size=300) | st.sampled_from(["", "\0", "\ud800", "\u202e x"])
whatever = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63)])
    | st.floats()
    | st.decimals()
    | texts
    | st.binary(max_size=5)
    | st.datetimes()
    | st.datetimes(timezones=st.just(UTC))
)


@given(st.sampled_from(list(Job.model_fields)), whatever)
def test_any_value_is_kept_as_it_was_or_refused_by_name(field: str, value: Any) -> None:
    try:
        job = Job(**arguments(field, value))
    except InvalidInput as refusal:
        problem: InvalidInput | None = refusal
        job = Job(author="mika")
    else:
        problem = None
    if problem is not None:
        assert problem.field == field
        assert str(problem).encode().startswith(field.encode())
        return
    kept = getattr(job, field)
    if isinstance(value, datetime):
        seconds = value.timestamp()
        assert kept == (seconds if field == "not_before" else int(seconds))
    else:
        assert kept == value
        assert type(kept) is type(value) or field in ("ready", "job_type", "not_before")
    encode_job(job)
