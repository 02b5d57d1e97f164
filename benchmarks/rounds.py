"""Measuring in turns: only ratios of one round are compared, and their median counts."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.targets import BY_KEY, Target

Operation = Callable[[], Awaitable[object]]
Measure = Callable[[], Awaitable[float]]


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is done; `postgres` is a DSN, or None where there is no server."""

    folder: Path
    postgres: str | None
    rounds: int
    seconds: float
    archived: int
    seed: int


@dataclass(frozen=True, slots=True)
class Result:
    """The rounds of one line: (ours, theirs, their ratio), or (figure, 0, figure)."""

    key: str
    rounds: list[tuple[float, float, float]]
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> Target:
        """What it has to reach."""
        return BY_KEY[self.key]

    @property
    def value(self) -> float:
        """The median of the rounds."""
        return median(ratio for _, _, ratio in self.rounds)

    @property
    def verdict(self) -> str:
        """How it stands to floor and goal."""
        return self.target.verdict(self.value)


async def duel(
    key: str, ours: Measure, theirs: Measure, rounds: int, raw: Measure | None = None
) -> Result:
    """Measure both sides `rounds` times in turns, after one round to warm up.

    `raw` does less than `theirs`, on libpndb's own table without a history: how ours stands to
    that goes into the notes.
    """
    found: list[tuple[float, float, float]] = []
    raw_rates: list[float] = []
    for number in range(rounds + 1):
        sides = [side for side in (theirs, ours, raw) if side]
        rates = {}
        for side in sides if number % 2 else reversed(sides):
            gc.collect()
            rates[side] = await side()
        if number:
            found.append((rates[ours], rates[theirs], rates[ours] / rates[theirs]))
            if raw:
                raw_rates.append(rates[raw])
    if not raw:
        return Result(key, found)
    to_raw = median(rate / least for (rate, _, _), least in zip(found, raw_rates, strict=True))
    notes = {"raw": round(to_raw, 4), "raw_rounds": [round(rate, 1) for rate in raw_rates]}
    return Result(key, found, notes)


async def crowd(callers: int, seconds: float, operation: Operation) -> float:
    """Calls per second of `callers` tasks that each make one call after the other."""
    done = 0
    clock = time.perf_counter
    start = clock()
    end = start + seconds

    async def caller() -> None:
        nonlocal done
        while clock() < end:
            await operation()
            done += 1

    if callers == 1:
        await caller()
    else:
        await asyncio.gather(*(caller() for _ in range(callers)))
    return done / (clock() - start)


async def repeat(count: int, operation: Operation) -> float:
    """Calls per second of one caller that makes `count` calls."""
    start = time.perf_counter()
    for _ in range(count):
        await operation()
    return count / (time.perf_counter() - start)


def in_loop(work: Coroutine[Any, Any, list[Result]], *, uvloop: bool = False) -> list[Result]:
    """Run `work` on an event loop of its own."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if uvloop:
        from uvloop import new_event_loop as factory  # noqa: PLC0415 - an extra
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)
