"""A large state is cut into segments, and a change rewrites few of them."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pandora_db import CheckpointCorrupt, InvalidInput
from pandora_db.codecs.checkpoint import (
    Entry,
    Place,
    Segment,
    blob_digest,
    decode_manifest,
    encode_manifest,
    is_manifest,
    join_state,
    split_state,
)
from pandora_db.models.limits import MAX_SEGMENT, MAX_SEGMENTS
from tests.support.checkpoints import PLACE, Clip, Open, same

HEADER = 64
CHANCE = random.Random(7)


def _records(count: int) -> list[Any]:
    return [
        {"path": f"/srv/{n}/{CHANCE.randbytes(20).hex()}.mkv", "size": CHANCE.randrange(2**40)}
        for n in range(count)
    ]


def _numbers(count: int) -> list[Any]:
    return [CHANCE.random() for _ in range(count)]


ALIKE: dict[str, Callable[[], Any]] = {
    "dicts": lambda: [{"a": n, "b": f"{n}"} for n in range(100)],
    "one key": lambda: [{"a": None}] * 16,
    "of lists": lambda: [{"a": [n], "b": list(range(n)), "c": {n: n}} for n in range(90)],
    "of UUIDs and ints": lambda: [{"u": UUID(int=n), "n": n * n} for n in range(100)],
    "of records": lambda: [{"a": [{"b": n, "c": m} for m in range(20)]} for n in range(20)],
    "another order": lambda: [{"a": 1, "b": 2}] * 20 + [{"b": 2, "a": 1}],
    "a key less": lambda: [{"a": 1, "b": 2}] * 20 + [{"a": 1}],
    "empty ones": lambda: [{}] * 20,
    "by number": lambda: [{1: 2}] * 20,
    "models": lambda: [Clip(path=Path(str(n)), frames=n) for n in range(50)],
    "models, some fields set": lambda: [
        Clip(path=Path("x"), **({"frames": 1} if n % 3 else {})) for n in range(50)
    ],
    "models with extras": lambda: [Open(clip=None, extra=n) for n in range(50)],
    "models of two kinds": lambda: [Open(clip=None), Clip(path=Path("x"))] * 20,
    "in a tuple": lambda: ([{"a": n} for n in range(50)], {"x": [{"a": n} for n in range(50)]}),
}

LARGE: dict[str, Callable[[], Any]] = {
    "a list of dicts": lambda: _records(5_000),
    "a list of numbers": lambda: [*_numbers(40_000), 1, True],
    "a list of long ints": lambda: [2**100 + n for n in range(30_000)],
    "a list of very long ints": lambda: [3 ** (20_000 + n) for n in range(100)],
    "ascending ints": lambda: list(range(0, 300_000, 2)),
    "a set of ints": lambda: set(range(0, 300_000, 2)) | {-5},
    "a set of texts": lambda: {f"text {n} {'x' * 10}" for n in range(10_000)},
    "a set of long texts": lambda: {f"{n}" * 40_000 for n in range(4)},
    "a frozenset of tuples": lambda: frozenset((n, str(n)) for n in range(20_000)),
    "a tuple": lambda: tuple(_records(2_000)),
    "text": lambda: "äöü😀" * 100_000,
    "bytes": lambda: CHANCE.randbytes(1_000_000),
    "a dict": lambda: {record["path"]: record for record in _records(2_000)},
    "a dict by number": lambda: {n: f"name {n}" for n in range(-100, 20_000)},
    "a dict of dicts": lambda: {"a": {"b": {"c": _records(3_000)}, "d": [1]}, "e": None},
    "long fields in short ones": lambda: [[{"n": n, "x": b"x" * 70_000}] for n in range(5)],
    "the same part again and again": lambda: ["x" * 70_000] * 5 + [0] * 50_000,
    "a model": lambda: Open(clip=None, files=_records(2_000), done=set(range(70_000)), note="x"),
    "a model inside": lambda: {"m": [Open(clip=None, files=_records(4_000))], 1: 2},
    "a list of UUIDs": lambda: [UUID(int=n) for n in range(10_000)],
}


async def _split(state: object, version: int = 1) -> list[Segment]:
    return await split_state(state, version=version, place=PLACE)


async def _join(segments: list[Segment]) -> object:
    return (await join_state([segment.blob for segment in segments], place=PLACE))[0]


def _rewritten(old: list[Segment], new: list[Segment]) -> int:
    known = {segment.digest for segment in old}
    return sum(len(segment.blob) for segment in new if segment.digest not in known)


@pytest.mark.parametrize("kind", ALIKE)
async def test_records_that_are_alike_come_back(kind: str) -> None:
    state = ALIKE[kind]()
    assert same(await _join(await _split(state)), state)
    assert same(await _join(await _split({"x": state})), {"x": state})


async def test_records_that_are_alike_have_their_keys_once() -> None:
    (segment,) = await _split([{"a key": CHANCE.random()} for _ in range(20)])
    assert len(segment.blob) < 20 * 10 + 100


@pytest.mark.parametrize("kind", LARGE)
async def test_what_was_cut_comes_back(kind: str) -> None:
    state = LARGE[kind]()
    segments = await _split(state)

    assert len(segments) > 1
    assert all(len(segment.blob) <= MAX_SEGMENT + HEADER for segment in segments)
    assert all(segment.digest == blob_digest(segment.blob) for segment in segments)
    assert len({(segment.name, segment.part) for segment in segments}) == len(segments)
    assert same(await _join(segments), state)
    assert [segment.blob for segment in await _split(state)] == [s.blob for s in segments]


@pytest.mark.parametrize("size", [0, 60_000, 65_000])
@pytest.mark.parametrize(
    "make", [lambda n: "x" * n, lambda n: [True] * n, lambda n: {"a": b"x" * n}]
)
async def test_what_packs_to_64_kib_is_one_segment(make: Callable[[int], Any], size: int) -> None:
    (segment,) = await _split(make(size))
    assert (segment.name, segment.part) == ("", 0)
    assert len(await _split(make(140_000))) > 1


async def test_what_takes_its_time_is_cut_earlier() -> None:
    pairs = [(n, n + 1) for n in range(6_000)]
    (segment,) = await _split(pairs)  # 60 KB
    assert await _join([segment]) == pairs
    pairs += pairs[:2_000]
    segments = await _split(pairs)
    assert len(segments) > 6
    assert await _join(segments) == pairs


async def test_segments_have_the_name_of_their_field() -> None:
    state = {"files": _records(3_000), "note": "x", "deep": {"inner": _numbers(20_000)}}
    names = [segment.name for segment in await _split(state)]
    assert set(names) == {"files", "deep", ""}
    assert names[-1] == ""


@pytest.mark.parametrize(
    "kind", ["a list of dicts", "a list of numbers", "a dict", "ascending ints"]
)
@pytest.mark.parametrize("where", ["end", "front", "middle"])
async def test_an_insert_and_a_removal_rewrite_what_is_around_them(kind: str, where: str) -> None:
    items = LARGE[kind]()
    pairs = list(items.items()) if isinstance(items, dict) else items
    at = {"end": len(pairs), "front": 0, "middle": len(pairs) // 2 + 1}[where]
    extra = pairs[at - 1] if kind == "ascending ints" and at else pairs[0]
    extra = ("new", 1) if isinstance(items, dict) else extra

    def state(values: list[Any]) -> Any:
        return {"note": "x", "it": dict(values) if isinstance(items, dict) else values}

    old = await _split(state(pairs))
    more = await _split(state([*pairs[:at], extra, *pairs[at:]]))
    fewer = await _split(state([*pairs[:at], *pairs[at + 7 :]]))
    assert _rewritten(old, more) < 256 * 1024
    assert _rewritten(old, fewer) < 256 * 1024
    assert _rewritten(old, old) == 0


async def test_a_change_of_1_kb_in_10_mb_rewrites_at_most_256_kib() -> None:
    state = {
        "records": _records(60_000), "log": CHANCE.randbytes(2_000_000),
        "numbers": _numbers(200_000), "note": "x",
        "small": {str(n): CHANCE.randbytes(30) for n in range(1_000)},
    }  # fmt: skip
    old = await _split(state)
    assert sum(len(segment.blob) for segment in old) > 5_000_000
    kilobyte = CHANCE.randbytes(1_000)
    for change in (
        {"records": [*state["records"][:30_000], {"new": kilobyte}, *state["records"][30_001:]]},
        {"records": [*state["records"], {"new": kilobyte}]},
        {"log": state["log"][:1_000_000] + kilobyte + state["log"][1_001_000:]},
        {"log": state["log"] + kilobyte},
        {"numbers": [*state["numbers"][:100_000], *_numbers(120), *state["numbers"][100_120:]]},
        {"small": {**state["small"], "7": kilobyte}},
        {"note": kilobyte},
    ):
        assert _rewritten(old, await _split({**state, **change})) < 256 * 1024


async def test_a_field_of_its_own_leaves_the_others_alone() -> None:
    state = {"big": _records(3_000), "a": "x" * 30_000, "b": "y" * 30_000, "c": 1}
    old = {segment.digest for segment in await _split(state)}
    new = [s for s in await _split({**state, "c": 2}) if s.digest not in old]
    assert {segment.name for segment in new} == {""}


async def test_versions_do_not_mix() -> None:
    state = {"big": _records(3_000)}
    one, two = await _split(state), await _split(state, version=2)
    assert not {s.digest for s in one} & {s.digest for s in two}
    with pytest.raises(CheckpointCorrupt, match="different versions"):
        await _join([*one[:-1], two[-1]])


async def test_missing_doubled_moved_and_stale_segments_are_refused() -> None:
    state = {"files": _records(4_000), "more": _records(2_000), "deep": [{"x": _numbers(20_000)}]}
    segments = await _split(state)
    stale = await _split({**state, "files": [*state["files"][:-1], {"changed": 1}]})
    old = [s for s in stale if s.digest not in {t.digest for t in segments}]
    foreign = (await split_state({"a": 1}, version=1, place=PLACE))[0]
    bad: list[list[Segment]] = [
        [],
        [foreign, *segments],
        [*segments, foreign],
        [*segments, *segments],
    ]
    for n, segment in enumerate(segments):
        bad.append([*segments[:n], *segments[n + 1 :]])
        bad.append([*segments[:n], segment, *segments[n:]])
        bad.append([*segments[:n], foreign, *segments[n + 1 :]])
        bad += [[*segments[:n], one, *segments[n + 1 :]] for one in old]
        if n:
            bad.append([*segments[: n - 1], segment, segments[n - 1], *segments[n + 1 :]])
    bad.append(segments[::-1])
    for given_ in bad:
        with pytest.raises(CheckpointCorrupt):
            await _join(given_)


async def test_others_run_meanwhile() -> None:
    state = {"files": _records(30_000), "numbers": _numbers(100_000)}
    ticks: list[float] = []

    async def tick() -> None:
        while True:
            ticks.append(time.perf_counter())
            await asyncio.sleep(0)

    ticker = asyncio.create_task(tick())
    segments = await _split(state)
    encoded = len(ticks)
    await _join(segments)
    ticker.cancel()
    # How long each turn takes is for the benchmark to say; that there are many, for this test.
    assert encoded > 20
    assert len(ticks) - encoded > 20


async def test_nothing_waits_for_the_garbage_collector() -> None:
    states = [{"a": [1, (2, {3})], 4: [{"b": n} for n in range(20)]}, {"files": _records(3_000)}]
    await _join(await _split(states))
    gc.collect()
    gc.disable()
    try:
        for state in states:
            await _join(await _split(state))
        assert gc.collect() == 0
    finally:
        gc.enable()


ENTRIES = st.lists(
    st.builds(
        Entry,
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**32 - 1),
        st.binary(min_size=16, max_size=16),
    ),
    min_size=1, max_size=50,
)  # fmt: skip


@given(ENTRIES, st.integers(0, 2**31 - 1))
def test_a_manifest_comes_back(entries: list[Entry], version: int) -> None:
    blob = encode_manifest(entries, version=version, place=PLACE)
    assert is_manifest(blob)
    assert decode_manifest(blob, PLACE) == entries


async def test_a_manifest_is_no_segment_and_a_segment_no_manifest() -> None:
    blob = encode_manifest([Entry(1, 2, bytes(16))], version=1, place=PLACE)
    (segment,) = await _split({"a": 1})
    assert not is_manifest(segment.blob)
    assert not is_manifest(b"")
    with pytest.raises(CheckpointCorrupt):
        await join_state([blob], place=PLACE)
    with pytest.raises(CheckpointCorrupt):
        decode_manifest(segment.blob, PLACE)
    with pytest.raises(CheckpointCorrupt, match="of another job or stage"):
        decode_manifest(blob, Place(42, 5))


def test_the_longest_manifest_fits() -> None:
    entries = [Entry(n, n, n.to_bytes(16, "big")) for n in range(MAX_SEGMENTS)]
    assert decode_manifest(encode_manifest(entries, version=1, place=PLACE), PLACE) == entries
    for wrong in ([], [*entries, entries[0]]):
        with pytest.raises(InvalidInput):
            encode_manifest(wrong, version=1, place=PLACE)
