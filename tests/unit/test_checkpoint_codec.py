"""A state comes back as it went in, or is refused with the path to what cannot be kept."""

from __future__ import annotations

import enum
import math
import pickle
import sys
import threading
from collections import OrderedDict, namedtuple
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgpack import ExtType, UnpackException
from pydantic import BaseModel

from pandora_db import CheckpointCorrupt, InvalidInput
from pandora_db.codecs.checkpoint import (
    Place,
    envelope,
    ints,
    join_state,
    split_state,
    walk,
)
from pandora_db.models.limits import MAX_CHECKPOINT_DEPTH, MAX_CHECKPOINT_ITEMS, MAX_CHECKPOINT_KEY
from tests.support.checkpoints import (
    INTS,
    PLACE,
    SAMPLES,
    STATES,
    Clip,
    Colour,
    Numbers,
    Open,
    Picky,
    Word,
    round_trip,
    same,
)


@pytest.mark.parametrize(
    "state", SAMPLES, ids=lambda state: f"{type(state).__name__} {state!r:.30}"
)
async def test_equal_values_of_equal_types_come_back(state: object) -> None:
    assert same(await round_trip(state), state)
    assert same(await round_trip({"a": [state, {"b": (state,)}]}), {"a": [state, {"b": (state,)}]})


@settings(max_examples=300, deadline=None)
@given(STATES)
async def test_any_state_comes_back(state: object) -> None:
    assert same(await round_trip(state), state)


@given(INTS, st.booleans())
def test_ascending_ints_are_packed_and_others_are_not(values: list[int], in_order: bool) -> None:
    values = sorted(values) if in_order else values
    packed = ints.pack_ints(values) if values else None

    assert (packed is not None) == (values != [] and values == sorted(values))
    if packed is not None:
        assert ints.unpack_ints(packed, list) == (values, len(values))
        assert len(packed) <= 9 + 8 * len(values)


async def test_a_run_up_to_the_greatest_int_comes_back() -> None:
    for length in range(93, 101):  # which leave 0 to 7 bits of the last byte
        run = list(range(2**63 - length, 2**63))
        assert await round_trip([run, set(run)]) == [run, set(run)]


async def test_a_nan_and_a_zone_by_name_come_back_as_what_they_say() -> None:
    berlin = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    found: Any = await round_trip([math.nan, Decimal("NaN"), berlin])

    assert math.isnan(found[0])
    assert found[1].is_nan()
    assert found[2].isoformat() == berlin.isoformat() == "2026-10-25T02:30:00+01:00"


async def test_nine_thousand_of_ten_thousand_indices_take_little_room() -> None:
    done = set(range(10_000)) - set(range(0, 10_000, 10))
    for state in (done, sorted(done), {"done": done}):
        (segment,) = await split_state(state, version=1, place=PLACE)
        assert len(segment.blob) < 1_400
        assert await round_trip(state) == state


async def test_order_of_a_dict_is_kept_and_that_of_a_set_means_nothing() -> None:
    assert list(await round_trip({"b": 1, "a": 2})) == ["b", "a"]  # type: ignore[call-overload]
    words = [f"word {n}" for n in range(50)]
    blobs = {
        (await split_state(kind(words), version=1, place=PLACE))[0].blob
        for kind in (set, lambda w: {*w[25:], *w}, lambda w: {*w, ""} - {""})
    }
    assert len(blobs) == 1


class Record(namedtuple("Record", "a")):  # noqa: PYI024 - a tuple that is none
    __slots__ = ()


class Text(str):
    __slots__ = ()


def _local() -> Any:
    class Local(enum.Enum):
        IT = 1

    return Local.IT


def _local_model() -> Any:
    class LocalModel(BaseModel):
        a: int = 1

    return LocalModel()


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def _cycle() -> Any:
    state: dict[str, Any] = {"a": [1]}
    state["a"].append(state)
    return state


def _laughs() -> Any:
    value: Any = "ha" * 1000
    for _ in range(12):
        value = [value] * 10
    return {"laughs": value}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (threading.Lock(), "state is a value of type lock; expected None, bool"),
        (
            {"files": [1, 2, 3, {"owner": object()}]},
            "state['files'][3]['owner'] is a value of type object;",
        ),
        ({"clip": Open(clip=None, lock=object())}, "state['clip'].lock is a value of type object;"),
        ({1: {b"k": (0, 1j)}}, "state[1][b'k'][1] is a value of type complex;"),
        ([bytearray(b"x")], "state[0] is a value of type bytearray;"),
        ([memoryview(b"x")], "state[0] is a value of type memoryview;"),
        ([OrderedDict(a=1)], "state[0] is a value of type OrderedDict;"),
        ([OrderedDict(a=1)] * 20, "state[0] is a value of type OrderedDict;"),
        ([{"one": 1}] * 20 + [{Word.ONE: 2}], "a key of state[20] is "),
        ([{"a": 1, "b": {"c": [object()]}}] * 20, "state[0]['b']['c'][0] is a value of type ob"),
        ([Record(1)], "state[0] is a value of type Record;"),
        ([Text("x")], "state[0] is "),
        ([ExtType(1, b"x")], "state[0] is a value of type ExtType;"),
        ({"f": {print}}, "a member of state['f'] is a value of type builtin_function_or_method;"),
        ({"a": {1.5: 2}}, "a key of state['a'] is 1.5 (a float); expected text, int or bytes"),
        ({True: 2}, "a key of state is True (a bool); expected text, int or bytes"),
        ({None: 2}, "a key of state is None; expected text, int or bytes"),
        ({Word.ONE: 2}, "a key of state is "),
        ([{"one": 1}, {Word.ONE: 2}], "a key of state[1] is "),
        ({"a": [{"one": 1}] * 500 + [{Word.ONE: 2}]}, "a key of state['a'][500] is "),
        ([{"one": 1}, {Text("one"): 2}], "a key of state[1] is "),
        ([{1: 1}, {True: 2}], "a key of state[1] is True (a bool)"),
        ([{1: 1}, {1.0: 2}], "a key of state[1] is 1.0 (a float)"),
        ({(1, 2): 2}, "a key of state is a value of type tuple; expected text, int or bytes"),
        (
            {"k" * (MAX_CHECKPOINT_KEY + 1): 2},
            "a key of state is of length 16385; expected at most 16384",
        ),
        (["ok", "a\ud800"], "state[1] is text with a lone surrogate at position 1; expected"),
        ({"\udfff": 1}, "a key of state is text with a lone surrogate at position 0; expected"),
        (
            {"p": Path("\udc80")},
            "state['p'] is a path with a lone surrogate at position 0; expected",
        ),
        ([_local()], "state[0] is a member of _local.<locals>.Local, a class that cannot be found"),
        (
            [_local_model()],
            "state[0] is a _local_model.<locals>.LocalModel, a class that cannot be",
        ),
        (
            [datetime(2026, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")).timetz()],
            "state[0] is a time whose zone has",
        ),
        ([2**70_000], "state[0] is an int of 70001 bits; expected fewer than 65536"),
        (
            [Decimal("1." + "1" * 5000)],
            "state[0] is a Decimal of 5002 characters; expected at most",
        ),
        ({n * (2**61 - 1) for n in range(300)}, "state is a set or dict whose hashes collide;"),
        (
            {"d": {n * (2**61 - 1): 1 for n in range(300)}},
            "state['d'] is a set or dict whose hashes",
        ),
        (_deep(MAX_CHECKPOINT_DEPTH + 1), "is too deep; expected at most 64 levels"),
        (_cycle(), "state['a'][1] is part of itself; expected a state without cycles"),
        ({"x": b"x" * (16 * 2**20 + 1)}, "state is too large; expected at most 16777216 bytes"),
        (["é" * (8 * 2**20 + 1)], "state is too large; expected at most 16777216 bytes"),
        (_laughs(), "state is too large; expected at most 16777216 bytes"),
        (
            [[None] * 1000] * (MAX_CHECKPOINT_ITEMS // 1000),
            "state has too many values; expected at most",
        ),
        ([[]] * (MAX_CHECKPOINT_ITEMS // 4 + 1), "state has too many values; expected at most"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)  # fmt: skip
async def test_what_cannot_be_kept_is_refused_with_its_path(state: object, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        await split_state(state, version=1, place=PLACE)

    assert message in str(caught.value)
    assert caught.value.field == "state"
    assert caught.value.__context__ is None


@pytest.mark.parametrize("before", [0, 3_000, 40_000])
async def test_the_path_is_right_in_a_state_that_is_cut(before: int) -> None:
    good: list[Any] = [{"n": n, "name": f"file {n}"} for n in range(before)]
    for state, path in (
        ({"files": [*good, {"name": object()}]}, f"state['files'][{before}]['name']"),
        ({"a": {"b": {**dict(enumerate(good)), -1: [object()]}}}, "state['a']['b'][-1][0]"),
        (Open(clip=None, files=[*good, "\ud800"]), f"state.files[{before}]"),
    ):
        with pytest.raises(InvalidInput) as caught:
            await split_state(state, version=1, place=PLACE)
        assert str(caught.value).startswith(f"{path} is ")


async def test_depth_counts_over_everything_that_holds_something() -> None:
    deepest = _deep(MAX_CHECKPOINT_DEPTH)
    assert await round_trip(deepest) == deepest
    for wrap in (lambda v: {"a": v}, lambda v: (v,), lambda v: {1: v}, lambda v: Open(x=v)):
        state = wrap(_deep(MAX_CHECKPOINT_DEPTH - 1))
        assert same(await round_trip(state), state)
        with pytest.raises(InvalidInput, match="too deep"):
            await split_state(wrap(deepest), version=1, place=PLACE)


async def test_a_message_shows_little_of_a_long_key() -> None:
    with pytest.raises(InvalidInput) as caught:
        await split_state({"s" * 5000: {"t" * 16_000: object()}}, version=1, place=PLACE)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("version", [-1, 2**31, True, "1", None])
async def test_a_version_is_a_small_number(version: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        await split_state({}, version=version, place=PLACE)
    assert caught.value.field == "version"


@pytest.mark.parametrize("place", [Place(43, 3), Place(42, 4), Place(3, 42), Place(-42, 3)])
async def test_a_checkpoint_of_another_job_or_stage_is_refused(place: Place) -> None:
    (segment,) = await split_state({"a": 1}, version=1, place=PLACE)
    with pytest.raises(CheckpointCorrupt, match="of another job or stage") as caught:
        await join_state([segment.blob], place=place)
    assert (caught.value.job_id, caught.value.stage) == place
    assert str(caught.value).startswith(
        f"the checkpoint of job {place.job_id} at stage {place.stage}"
    )


def test_the_error_keeps_its_facts() -> None:
    error = CheckpointCorrupt("it is cut short", job_id=5, stage=3)
    for again in (error, pickle.loads(pickle.dumps(error))):  # noqa: S301
        assert str(again) == "the checkpoint of job 5 at stage 3 cannot be read: it is cut short"
        assert (again.reason, again.job_id, again.stage) == ("it is cut short", 5, 3)
    assert str(CheckpointCorrupt("x")) == "the checkpoint cannot be read: x"


async def test_a_format_of_the_future_asks_for_an_upgrade() -> None:
    (segment,) = await split_state({"a": 1}, version=1, place=PLACE)
    future = segment.blob[:4] + bytes((2,)) + segment.blob[5:]
    with pytest.raises(
        CheckpointCorrupt, match="has format 2, this pandora_db knows 1: upgrade it"
    ):
        await join_state([future], place=PLACE)


def _without_zstandard(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(sys.modules, "zstandard", None)
    patch.setattr(envelope, "_codec", None)
    patch.setattr(envelope, "_missing", False)


async def test_without_zstandard_nothing_is_compressed_and_the_extra_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = {"text": "the same words again " * 200}
    (small,) = await split_state(state, version=1, place=PLACE)
    assert len(small.blob) < 300
    with monkeypatch.context() as patch:
        _without_zstandard(patch)
        with pytest.raises(CheckpointCorrupt, match=r"pip install '/path/to/pandora_db\[zstd\]'"):
            await join_state([small.blob], place=PLACE)
        (large,) = await split_state(state, version=1, place=PLACE)
        assert len(large.blob) > 4_000
        assert await join_state([large.blob], place=PLACE) == (state, 1)
    assert await join_state([large.blob], place=PLACE) == (state, 1)
    assert await join_state([small.blob], place=PLACE) == (state, 1)


@pytest.mark.parametrize("state", [Colour.RED, [Clip(path=Path("x"))], {Word.ONE}])
async def test_a_class_is_looked_for_among_the_imported_modules_only(
    state: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    (segment,) = await split_state(state, version=1, place=PLACE)
    monkeypatch.delitem(sys.modules, Colour.__module__)
    with pytest.raises(
        CheckpointCorrupt, match="must be imported before load_checkpoint"
    ) as caught:
        await join_state([segment.blob], place=PLACE)
    assert Colour.__module__ in str(caught.value)
    assert Colour.__module__ not in sys.modules


@pytest.mark.parametrize(
    "name",
    ["os:system", "builtins:dict", "enum:Enum.x", f"{__name__}:Text", "a", "", ":", "sys:modules"],
)
async def test_a_class_that_is_no_enum_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pandora_db.codecs.checkpoint.types.class_name", lambda _kind: name)
    (segment,) = await split_state([Colour.RED], version=1, place=PLACE)
    with pytest.raises(CheckpointCorrupt):
        await join_state([segment.blob], place=PLACE)


async def test_a_member_or_field_that_went_away_is_corrupt_and_shows_no_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (red,) = await split_state(Colour.RED, version=1, place=PLACE)
    secret = Picky.model_construct(secret="hunter2 and more")  # noqa: S106 - to be looked for
    (model,) = await split_state([secret], version=1, place=PLACE)
    monkeypatch.setattr(Colour, "_member_map_", {})

    for segment, reason in ((red, "KeyError"), (model, "ValidationError")):
        with pytest.raises(CheckpointCorrupt, match=reason) as caught:
            await join_state([segment.blob], place=PLACE)
        assert "hunter2" not in f"{caught.value} {vars(caught.value)}"
        assert caught.value.__cause__ is caught.value.__context__ is None


async def test_fields_that_were_not_set_stay_so() -> None:
    found: Any = await round_trip([Clip(path=Path("a")), Clip(path=Path("a"), frames=0)])
    assert [clip.model_fields_set for clip in found] == [{"path"}, {"path", "frames"}]


async def test_a_model_may_hold_what_its_type_says_and_a_root_model_its_root() -> None:
    assert same(await round_trip(Numbers([1, 2])), Numbers([1, 2]))


@pytest.mark.parametrize("fixed", [True, False], ids=["C", "Python"])
def test_levels_are_counted_whatever_msgpack_this_is(
    fixed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert walk._FIXED_STACK  # of the msgpack that the suite runs on
    monkeypatch.setattr(walk, "_FIXED_STACK", fixed)
    walk.check_whole(b"\x91" * 64 + b"\x80", 65)
    for bad, levels in ((b"\x91" * 64 + b"\x80", 64), (b"\xc0\xc0", 1), (b"\x92\xc0", 1)):
        with pytest.raises((ValueError, UnpackException)):
            walk.check_whole(bad, levels)
