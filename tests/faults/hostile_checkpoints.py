"""T22: damaged and hostile checkpoints: each is refused with `CheckpointCorrupt`, at little cost.

`python -m tests.faults.hostile_checkpoints --long --json FILE`
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from pandora_db import CheckpointCorrupt
from pandora_db.codecs.checkpoint import (
    Entry,
    Place,
    decode_manifest,
    encode_manifest,
    join_state,
    split_state,
)
from tests.faults.command import Bench, main
from tests.faults.hostile_corpus import CASES, forge, real_states

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PLACE = Place(42, 3)
WRONG = ("accepted", "other exceptions")


class Checkpoint(NamedTuple):
    """The blobs of one checkpoint: of a manifest, or all segments."""

    blobs: list[bytes]
    manifest: bool = False

    async def read(self, blobs: Sequence[bytes]) -> object:
        """Decode `blobs` as what this one is."""
        if self.manifest:
            return decode_manifest(blobs[0], PLACE)
        return await join_state(blobs, place=PLACE)


async def real_checkpoints(seed: int) -> list[Checkpoint]:
    """Checkpoints of many kinds, each with its manifest."""
    found = []
    for state in real_states(seed):
        segments = await split_state(state, version=1, place=PLACE)
        entries = [Entry(7, part, segment.digest) for part, segment in enumerate(segments)]
        found.append(Checkpoint([segment.blob for segment in segments]))
        manifest = encode_manifest(entries, version=1, place=PLACE)
        found.append(Checkpoint([manifest], manifest=True))
    return found


class Judge:
    """Counts how blobs that must be refused fare."""

    def __init__(self) -> None:
        self.tally: Counter[str] = Counter(dict.fromkeys(("cases", "refused", *WRONG), 0))
        self.slowest = (0.0, "")
        self.notes: list[str] = []

    async def refuse(self, what: str, checkpoint: Checkpoint, blobs: Sequence[bytes]) -> None:
        """Read `blobs`, which must be refused."""
        self.tally["cases"] += 1
        start = time.perf_counter()
        try:
            await checkpoint.read(blobs)
        except CheckpointCorrupt:
            self.tally["refused"] += 1
        except BaseException as error:  # noqa: BLE001 - whatever else it is, it is wrong
            self.tally["other exceptions"] += 1
            self.notes.append(f"{what}: {error!r:.200}")
        else:
            self.tally["accepted"] += 1
            self.notes.append(f"{what}: accepted")
        self.slowest = max(self.slowest, (time.perf_counter() - start, what))

    def report(self) -> dict[str, Any]:
        """The figures."""
        seconds, what = self.slowest
        slowest = f"{seconds * 1000:.1f} ms, {what}"
        return {**self.tally, "slowest": slowest, **({"wrong": self.notes} if self.notes else {})}


def flips(checkpoint: Checkpoint, chance: random.Random, most: int) -> Iterator[list[bytes]]:
    """The checkpoint with one bit changed: every bit of it, or `most` of them."""
    blobs = checkpoint.blobs
    bits = [(number, bit) for number, blob in enumerate(blobs) for bit in range(len(blob) * 8)]
    for number, bit in bits if len(bits) <= most else chance.sample(bits, most):
        damaged = bytearray(blobs[number])
        damaged[bit // 8] ^= 1 << bit % 8
        yield [*blobs[:number], bytes(damaged), *blobs[number + 1 :]]


def cuts(checkpoint: Checkpoint, chance: random.Random, most: int) -> Iterator[list[bytes]]:
    """The checkpoint with one blob cut short, at every length or at `most` of them."""
    blobs = checkpoint.blobs
    ends = [(number, end) for number, blob in enumerate(blobs) for end in range(len(blob))]
    for number, end in ends if len(ends) <= most else chance.sample(ends, most):
        yield [*blobs[:number], blobs[number][:end], *blobs[number + 1 :]]


async def damage(seed: int, flipped: int, cut: int) -> Judge:
    """Flip bits of real checkpoints and cut them short: up to so many times each."""
    chance = random.Random(seed)
    judge = Judge()
    for number, checkpoint in enumerate(await real_checkpoints(seed)):
        await checkpoint.read(checkpoint.blobs)
        for blobs in flips(checkpoint, chance, flipped):
            await judge.refuse(f"a flip in {number}", checkpoint, blobs)
            judge.tally["flips"] += 1
        for blobs in cuts(checkpoint, chance, cut):
            await judge.refuse(f"a cut of {number}", checkpoint, blobs)
            judge.tally["cuts"] += 1
    return judge


async def corpus(*, thorough: bool) -> Judge:
    """Contents that no encoder makes, under checksums that are right; once more for the memory.

    Thorough: the memory of all of them, otherwise of those in one segment.
    """
    judge = Judge()
    for what, blobs in CASES:
        await judge.refuse(what, Checkpoint(blobs), blobs)
    peak = (0, "")
    tracemalloc.start()
    try:
        for what, blobs in CASES if thorough else [case for case in CASES if len(case[1]) < 2]:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            with suppress(CheckpointCorrupt):
                await Checkpoint(blobs).read(blobs)
            peak = max(peak, (tracemalloc.get_traced_memory()[1] - before, what))
    finally:
        tracemalloc.stop()
    judge.tally["peak MB"] = peak[0] // 2**20
    judge.notes += [f"{peak[1]} took {peak[0] >> 20} MB"] if peak[0] > 2**28 else []
    return judge


async def fuzz(seed: int, rounds: int) -> Judge:
    """Real contents with random changes, under checksums that are right.

    What comes out of that may be a state by chance; that nothing else than `CheckpointCorrupt` is
    raised is all there is to say.
    """
    chance = random.Random(seed)
    judge = Judge()
    contents = [
        content for state in real_states(seed, small=True) for content in await _contents(state)
    ]
    for number in range(rounds):
        content = bytearray(chance.choice(contents))
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(content) + 1)
            match chance.randrange(4):
                case 0 if at < len(content):
                    content[at] = chance.randrange(256)
                case 1:
                    content[at:at] = chance.randbytes(chance.randint(1, 6))
                case 2:
                    del content[at : at + chance.randint(1, 6)]
                case _:
                    content[at:at] = chance.choice(contents)[:50]
        blob = forge(bytes(content[:200_000]))
        judge.tally["cases"] += 1
        start = time.perf_counter()
        try:
            await join_state([blob], place=PLACE)
        except CheckpointCorrupt:
            judge.tally["refused"] += 1
        except BaseException as error:  # noqa: BLE001 - see above
            judge.tally["other exceptions"] += 1
            judge.notes.append(f"{bytes(content[:100])!r}: {error!r:.200}")
        else:
            judge.tally["legal by chance"] += 1
        judge.slowest = max(judge.slowest, (time.perf_counter() - start, f"round {number}"))
    return judge


async def _contents(state: object) -> list[bytes]:
    from pandora_db.codecs.checkpoint.envelope import SEGMENT, open_blob

    segments = await split_state(state, version=1, place=PLACE)
    return [open_blob(segment.blob, kind=SEGMENT, place=PLACE).payload for segment in segments]


async def _report(bench: Bench) -> dict[str, Any]:
    flipped, cut = (12_000, 2_000) if bench.long else (300, 100)
    return {
        "flips and cuts": (await damage(bench.seed, flipped, cut)).report(),
        "hostile, checksum right": (await corpus(thorough=bench.long)).report(),
        "random changes, checksum right": (
            await fuzz(bench.seed, 100_000 if bench.long else 2_000)
        ).report(),
    }


if __name__ == "__main__":
    main(_report)
