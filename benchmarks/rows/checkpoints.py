"""Row 10: how large checkpoints are, how long they take, and what a change costs."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from statistics import fmean, geometric_mean, median
from typing import Any

from benchmarks.rounds import Plan, Result, in_loop
from benchmarks.states import AGAIN, KINDS, json_default, large_state, small_record
from pandora_db.codecs.checkpoint import (
    Entry,
    Place,
    Segment,
    encode_manifest,
    join_state,
    split_state,
)

_PLACE = Place(1, 3)
_KB = 1024


def checkpoints(plan: Plan) -> list[Result]:
    """Size and time over kinds of state; a change of 1 KB in 10 MB; the event loop meanwhile."""
    return in_loop(_kinds(plan)) + in_loop(_change(plan)) + in_loop(_block(plan))


async def _split(state: object) -> list[Segment]:
    return await split_state(state, version=1, place=_PLACE)


async def _ours(state: object) -> None:
    blobs = [segment.blob for segment in await _split(state)]
    await join_state(blobs, place=_PLACE)


def _json(state: object) -> str:
    return json.dumps(state, separators=(",", ":"), default=json_default)


async def _theirs(state: object) -> None:
    json.loads(_json(state))


async def _kinds(plan: Plan) -> list[Result]:
    chance = random.Random(plan.seed)  # noqa: S311 - data, not secrets
    states = {name: make(chance) for name, make in KINDS.items()}
    sizes = {name: await _size(name, state) for name, state in states.items()}
    seconds = plan.seconds / 8
    ratios: dict[str, list[float]] = {name: [] for name in states}
    again: dict[str, list[float]] = {name: [] for name in states}
    for number in range(plan.rounds + 1):
        for name, state in states.items():
            theirs = await _seconds(_theirs, state, seconds)
            ours = await _seconds(_ours, state, seconds)
            back = await _seconds(partial(_and_back, name), state, seconds)
            if number:
                ratios[name].append(theirs / ours)
                again[name].append(back / ours)
    rounds = [fmean(found) for found in zip(*ratios.values(), strict=True)]
    by_kind = {name: round(median(found), 2) for name, found in ratios.items()}
    tiny = {"next_segment": 12, "file": "a.mkv"}
    notes = {
        "by kind": by_kind,
        "geometric mean": round(geometric_mean(by_kind.values()), 2),
        "against json and the types put back": {
            "mean": round(fmean(median(found) for found in again.values()), 2),
            **{name: round(median(again[name]), 2) for name in AGAIN},
        },
        "a state of two fields, microseconds": {
            "ours": round(await _seconds(_ours, tiny, seconds) * 1e6, 1),
            "json": round(await _seconds(_theirs, tiny, seconds) * 1e6, 1),
        },
    }
    mean = fmean(sizes.values())
    by_size = {name: round(size, 4) for name, size in sizes.items()}
    return [
        Result("10-size", [(mean, 1.0, mean)], {"by kind": by_size}),
        Result("10-time", [(ratio, 1.0, ratio) for ratio in rounds], notes),
    ]


async def _and_back(name: str, state: object) -> None:
    _restored(name, state)


def _restored(name: str, state: object) -> object:
    loaded = json.loads(_json(state))
    return AGAIN[name](loaded) if name in AGAIN else loaded


async def _size(name: str, state: object) -> float:
    segments = await _split(state)
    again, _ = await join_state([segment.blob for segment in segments], place=_PLACE)
    assert again == state == _restored(name, state)
    return sum(len(segment.blob) for segment in segments) / len(_json(state).encode())


async def _seconds(
    side: Callable[[object], Awaitable[None]], state: object, seconds: float
) -> float:
    """The time of one call: the processor's, since nothing here waits for anything else."""
    gc.collect()
    calls = 0
    start = time.process_time()
    while (spent := time.process_time() - start) < seconds or not calls:
        await side(state)
        calls += 1
    return spent / calls


async def _change(plan: Plan) -> list[Result]:
    chance = random.Random(plan.seed)  # noqa: S311
    state = large_state(chance)
    first = await _split(state)
    stored = {segment.digest for segment in first}
    text = "".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=1_000))
    new = {**small_record(chance, 0), "text": text}
    records, log = state["records"], state["log"]
    written: dict[str, list[float]] = {}
    for _ in range(plan.rounds):
        at = chance.randrange(1_000, len(records) - 1_000)
        changes: dict[str, dict[str, Any]] = {
            "a record replaced": {"records": [*records[:at], new, *records[at + 1 :]]},
            "a record inserted": {"records": [*records[:at], new, *records[at:]]},
            "the first record taken, one appended": {"records": [*records[1:], new]},
            "ten records changed together": {
                "records": [*records[:at], *[{**one, "tries": 9} for one in records[at : at + 10]],
                            *records[at + 10 :]]
            },
            "the log longer": {"log": log + text},
            "a short field": {"note": text},
        }  # fmt: skip
        for name, change in changes.items():
            segments = await _split({**state, **change})
            fresh = sum(len(one.blob) for one in segments if one.digest not in stored)
            written.setdefault(name, []).append((fresh + _manifest(segments)) / _KB)
    worst = [max(found) for found in zip(*written.values(), strict=True)]
    notes = {
        "state": f"{len(_json(state)) / 1e6:.1f} MB of JSON, {len(first)} segments, "
        f"{sum(len(one.blob) for one in first) / 1e6:.1f} MB stored",
        "KB by change": {name: round(median(found), 1) for name, found in written.items()},
        "manifest KB": round(_manifest(first) / _KB, 1),
    }
    return [Result("10-change", [(figure, 0.0, figure) for figure in worst], notes)]


def _manifest(segments: list[Segment]) -> int:
    entries = [Entry(1, part, one.digest) for part, one in enumerate(segments)]
    return len(encode_manifest(entries, version=1, place=_PLACE))


async def _block(plan: Plan) -> list[Result]:
    state = large_state(random.Random(plan.seed))  # noqa: S311
    blobs = [segment.blob for segment in await _split(state)]
    packing: list[float] = []
    unpacking: list[float] = []
    for _ in range(plan.rounds):
        packing.append(await _longest(_split(state)))
        unpacking.append(await _longest(join_state(blobs, place=_PLACE)))
    rounds = [max(pair) for pair in zip(packing, unpacking, strict=True)]
    notes = {"packing ms": round(median(packing), 1), "unpacking ms": round(median(unpacking), 1)}
    return [Result("10-block", [(figure, 0.0, figure) for figure in rounds], notes)]


async def _longest(work: Awaitable[object]) -> float:
    """For how many milliseconds nobody else had a turn while `work` was done."""
    longest = 0.0
    last = time.perf_counter()

    async def tick() -> None:
        nonlocal longest, last
        while True:
            now = time.perf_counter()
            longest = max(longest, now - last)
            last = now
            await asyncio.sleep(0)

    gc.collect()
    ticker = asyncio.create_task(tick())
    await asyncio.sleep(0)
    longest, last = 0.0, time.perf_counter()
    made = await work
    longest = max(longest, time.perf_counter() - last)
    ticker.cancel()
    del made  # that takes its time too, but it is the caller's to keep or to drop
    return longest * 1000
