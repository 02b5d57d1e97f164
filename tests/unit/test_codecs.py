"""Numbers ↔ enums, JSON text, and the checks on arguments."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pandora_db.codecs import checks
from pandora_db.codecs.job_type import check_job_type
from pandora_db.codecs.json_text import decode_json, encode_json
from pandora_db.codecs.stage import check_stage, live_range
from pandora_db.errors import InvalidInput, UnknownCode
from pandora_db.models.event import EventKind
from pandora_db.models.job_type import JobType
from pandora_db.models.limits import MAX_BULK, MAX_ERROR, MAX_ID, MAX_JSON, MAX_LIMIT, MAX_SECONDS
from pandora_db.models.preset import Concat, Preset
from pandora_db.models.stage import STAGES, Stage, StageKind, TaskStage, stage_info
from pandora_db.models.status import Hold


def test_stage_codes_are_the_documented_ones() -> None:
    assert [(stage.name, stage.value) for stage in Stage] == [
        ("QUEUED", 0),
        ("DOWNLOADING", 1),
        ("DOWNLOADED", 2),
        ("ENCODING", 3),
        ("ENCODED", 4),
        ("UPLOADING", 5),
        ("UPLOADED", 6),
        ("FAILED", 7),
        ("DECLINED", 8),
        ("CANCELLED", 9),
    ]


def test_stage_table() -> None:
    assert set(STAGES) == {stage.value for stage in (*Stage, *TaskStage)}
    assert {code: info.returns_to for code, info in STAGES.items() if info.kind == "working"} == {
        1: 0,
        3: 2,
        5: 4,
        101: 100,
    }
    assert all(
        info.returns_to is None for info in STAGES.values() if info.kind is not StageKind.WORKING
    )
    assert {stage for stage in Stage if stage.terminal} == {
        Stage.UPLOADED,
        Stage.FAILED,
        Stage.DECLINED,
        Stage.CANCELLED,
    }
    assert str(stage_info(3)) == "3 Encoding (working)"
    assert all(code == info.code for code, info in STAGES.items())
    assert {stage.info.pipeline for stage in Stage} == {1}
    assert {stage.info.pipeline for stage in TaskStage} == {100}
    assert [str(stage.info) for stage in TaskStage] == [
        "100 Queued (waiting)",
        "101 Running (working)",
        "102 Completed (done)",
        "103 Failed (failed)",
        "104 Cancelled (cancelled)",
    ]


@pytest.mark.parametrize(
    ("preset", "pair"),
    [
        (Preset.PSEUDO_LOSSLESS, (0, None)),
        (Preset.STANDARD, (1, None)),
        (Preset.GPU, (2, None)),
        (Preset.concat(Concat.DEFAULT), (3, 0)),
        (Preset.concat(Concat.SOME_SUBS), (3, 1)),
    ],
)
def test_preset_pairs(preset: Preset, pair: tuple[int, int | None]) -> None:
    assert preset.value == pair
    assert Preset(pair) is preset


@pytest.mark.parametrize("pair", [(3, None), (1, 0), (4, None), (-1, None), (3, 2), (None, None)])
def test_other_pairs_are_unknown(pair: Any) -> None:
    with pytest.raises(UnknownCode, match=r"preset .* is unknown; known are 0 PSEUDO_LOSSLESS"):
        Preset(pair)


@pytest.mark.parametrize(
    "known",
    [Stage, TaskStage, JobType, Hold, EventKind, Concat],
)
def test_codes_round_trip_and_unknown_ones_raise(known: Any) -> None:
    assert all(known(member.value) is member for member in known)
    for code in (-1, 42, 1000, None):
        with pytest.raises(UnknownCode) as caught:
            known(code)
        assert caught.value.code == code


def test_stage_info_of_an_unknown_code() -> None:
    for code in (42, None):
        with pytest.raises(UnknownCode, match=r"known are 0 Stage\.QUEUED"):
            stage_info(code)


def test_check_stage() -> None:
    assert check_stage(Stage.ENCODED) is check_stage(4) is Stage.ENCODED
    with pytest.raises(UnknownCode, match=r"^stage 42 is unknown"):
        check_stage(42)
    for value in (True, "4", 4.0, None, Preset.GPU):
        with pytest.raises(InvalidInput) as caught:
            check_stage(value)
        assert caught.value.field == "stage"


def test_check_job_type() -> None:
    assert check_job_type(1) is check_job_type(JobType.ENCODE) is JobType.ENCODE
    with pytest.raises(UnknownCode):
        check_job_type(7)
    for value in (True, "1", None):
        with pytest.raises(InvalidInput):
            check_job_type(value)


@pytest.mark.parametrize("stage", list(Stage))
def test_live_range(stage: Stage) -> None:
    low, high = live_range(stage)
    reachable = {s for s in Stage if low <= s <= high}
    live = {s for s in Stage if not s.terminal}
    assert reachable == (live if stage.terminal else {s for s in live if s <= stage})


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        (checks.check_id, [0, 1, MAX_ID], [-1, MAX_ID + 1, True, "1", 1.0, None]),
        (checks.check_limit, [1, MAX_LIMIT], [0, -1, MAX_LIMIT + 1, True, 1.0, None, "5"]),
        (checks.check_offset, [0, MAX_ID], [-1, MAX_ID + 1, False, None]),
        (checks.check_priority, [-32_767, 0, 32_767], [-32_768, 32_768, True, 0.0]),
        (checks.check_progress, [0, 0.5, 1], [-0.1, 1.1, float("nan"), True, "1", None]),
        (checks.check_author, ["a", "ä" * 256], ["", "a" * 257, "\0", "\ud83d", 5, None]),
        (checks.check_operation_id, [uuid4()], ["x", None, 5]),
    ],
)
def test_argument_checks(check: Any, good: list[Any], bad: list[Any]) -> None:
    assert [check(value) for value in good] == good
    for value in bad:
        with pytest.raises(InvalidInput, match="expected") as caught:
            check(value)
        assert caught.value.field is not None


def test_int_subclasses_become_ints() -> None:
    assert type(checks.check_id(Stage.ENCODED)) is int


def test_check_ids() -> None:
    assert checks.check_ids(iter([3, 1, 3])) == [3, 1, 3]
    for bad in ("123", b"1", None, 5, [1, "2"], [True]):
        with pytest.raises(InvalidInput):
            checks.check_ids(bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="too many"):
        checks.check_ids(range(MAX_BULK + 1))


def test_check_bool() -> None:
    assert checks.check_bool(value=True, field="archived")
    for bad in (0, 1, "yes", None):
        with pytest.raises(InvalidInput, match="archived"):
            checks.check_bool(bad, "archived")


def test_check_path() -> None:
    assert checks.check_path(Path("/a/b")) == checks.check_path("/a/b") == "/a/b"
    for bad in ("\0", b"/a", None, "x" * 4097):
        with pytest.raises(InvalidInput):
            checks.check_path(bad)


def test_check_time() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert checks.check_time(noon + timedelta(microseconds=999_999), "since") == noon.timestamp()
    assert checks.check_time(MAX_SECONDS, "since") == MAX_SECONDS
    assert checks.check_time(datetime.max.replace(tzinfo=UTC), "until") == MAX_SECONDS
    for bad in (noon.replace(tzinfo=None), 1.0, -1, True, None, "now", MAX_SECONDS + 1):
        with pytest.raises(InvalidInput, match="since"):
            checks.check_time(bad, "since")


def test_clean_error_makes_anything_storable() -> None:
    assert checks.clean_error("a\0b\ud800c") == "a\\x00b\\ud800c"
    assert checks.clean_error(ValueError("bad\0")) == "ValueError: bad\\x00"
    assert checks.clean_error(TimeoutError()) == "TimeoutError"
    assert checks.clean_error("x" * MAX_ERROR) == "x" * MAX_ERROR
    cut = checks.clean_error("x" * 20_000)
    assert len(cut) == MAX_ERROR
    assert cut.endswith(" … (cut; 20000 characters in all)")
    with pytest.raises(InvalidInput):
        checks.clean_error(5)


@given(st.text(st.characters(), max_size=50))
def test_check_text_agrees_with_what_both_engines_store(text: str) -> None:
    storable = "\0" not in text and not any("\ud800" <= c <= "\udfff" for c in text)
    try:
        assert checks.check_text(text, "x", 50) == text
    except InvalidInput:
        assert not storable
    else:
        assert storable


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(), max_size=8), inner),
    max_leaves=20,
)


@given(json_values)
def test_json_is_read_back_equal_or_refused(value: Any) -> None:
    try:
        text = encode_json(value, "output")
    except InvalidInput:
        return
    text.encode()
    assert decode_json(text, "output") == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_survive_a_store_that_keeps_numbers_as_decimals(value: float) -> None:
    """As JSONB does: 1e16 would come back as an integer, 1e23 as another number."""
    try:
        text = encode_json(value, "x")
    except InvalidInput:
        assert abs(value) >= 1e16
        return
    from decimal import Decimal

    assert json.loads(format(Decimal(text), "f")) == value


def test_json_size_counts_bytes() -> None:
    assert len(encode_json("x" * (MAX_JSON - 3), "x")) == MAX_JSON - 1
    with pytest.raises(InvalidInput, match="takes 1100002 bytes as JSON"):
        encode_json("ä" * 550_000, "x")


def test_json_of_another_program() -> None:
    assert decode_json(None, "x") is None
    for bad in ("{", "", "[" * 100_000):
        with pytest.raises(InvalidInput, match="not JSON"):
            decode_json(bad, "x")
