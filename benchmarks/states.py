"""States of jobs, of the kinds that checkpoints are made of."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel

_ENCODED = 180
_START = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Clip(BaseModel):
    """A part of a video, as an application would describe it."""

    path: Path
    index: int
    start: float
    duration: float
    codec: str = "libx265"
    done: bool = False
    finished_at: datetime | None = None


def _path(chance: random.Random, number: int) -> str:
    show = chance.choice(("Alpine Huts", "Deep Sea", "Night Trains", "Old Clocks"))
    name = f"{show} {number:04} {chance.randrange(10**6)}.mkv"
    return f"/srv/media/{show}/season {number // 24:02}/{name}"


def _file_copy(chance: random.Random) -> object:
    paths = [_path(chance, number) for number in range(2_000)]
    return {
        "source": "/srv/media", "target": "/mnt/backup", "paths": paths,
        "completed": list(range(1_200)), "bytes": chance.randrange(2**45), "errors": {},
    }  # fmt: skip


def _uuids(chance: random.Random) -> object:
    return {"ids": [UUID(int=chance.getrandbits(128), version=4) for _ in range(1_000)]}


def small_record(chance: random.Random, number: int) -> dict[str, Any]:
    """A record of five fields."""
    return {
        "id": number, "name": f"item {chance.randrange(10**6)}", "size": chance.randrange(10**9),
        "done": chance.choice((False, True)), "tries": chance.randrange(4),
    }  # fmt: skip


def _records(chance: random.Random) -> object:
    return [small_record(chance, number) for number in range(500)]


def _large_numbers(chance: random.Random) -> object:
    ints = [chance.randrange(2**40, 2**63) for _ in range(2_000)]
    return {"offsets": ints, "scores": [chance.random() for _ in range(2_000)]}


def _booleans(chance: random.Random) -> object:
    return [chance.choice((False, True)) for _ in range(5_000)]


def _done(chance: random.Random) -> list[int]:
    return sorted(chance.sample(range(10_000), 9_000))


def _finished(number: int) -> datetime:
    return _START + timedelta(seconds=31 * number)


def _encode(chance: random.Random) -> object:
    return {
        "input": _path(chance, 7), "preset": "standard", "pass": 1, "next_segment": _ENCODED,
        "started_at": _START,
        "segments": [
            {
                "index": number, "start": number * 10.01, "duration": 10.01, "frames": 240,
                "path": f"/srv/encode/7/{number:05}.mkv", "done": number < _ENCODED,
                "bitrate": chance.randrange(2_000_000, 9_000_000),
                "finished_at": _finished(number) if number < _ENCODED else None,
            }
            for number in range(300)
        ],
    }  # fmt: skip


def _models(chance: random.Random) -> object:
    return {
        "clips": [
            Clip(
                path=Path(_path(chance, n)),
                index=n,
                start=chance.random(),
                duration=chance.random(),
            )
            for n in range(200)
        ]
    }


KINDS: Mapping[str, Callable[[random.Random], object]] = {
    "file copy with paths": _file_copy,
    "UUID objects": _uuids,
    "small records": _records,
    "sequential integers": lambda _: list(range(10_000)),
    "large integers and floats": _large_numbers,
    "booleans": _booleans,
    "9,000 of 10,000 done, as a set": lambda chance: {"done": set(_done(chance))},
    "9,000 of 10,000 done, as a list": lambda chance: {"done": _done(chance)},
    "encode state with segments": _encode,
    "pydantic models": _models,
}


def _dates_again(state: Any) -> object:  # noqa: ANN401
    state["started_at"] = datetime.fromisoformat(state["started_at"])
    for segment in state["segments"]:
        if segment["finished_at"] is not None:
            segment["finished_at"] = datetime.fromisoformat(segment["finished_at"])
    return state


AGAIN: Mapping[str, Callable[[Any], object]] = {
    "UUID objects": lambda state: {"ids": list(map(UUID, state["ids"]))},
    "9,000 of 10,000 done, as a set": lambda state: {"done": set(state["done"])},
    "encode state with segments": _dates_again,
    "pydantic models": lambda state: {"clips": list(map(Clip.model_validate, state["clips"]))},
}
"""What is left to do after `json.loads` until the state is what it was; no more than is needed."""


def large_state(chance: random.Random) -> dict[str, Any]:
    """About 10 MB: records, numbers, a log and what is small."""
    return {
        "records": [small_record(chance, number) for number in range(70_000)],
        "scores": [chance.random() for _ in range(200_000)],
        "paths": {_path(chance, number): number for number in range(20_000)},
        "log": "".join(f"{n} frame {chance.randrange(10**9)}\n" for n in range(40_000)),
        "done": set(range(0, 100_000, 3)),
        "note": "x",
    }


def json_default(value: object) -> object:
    """What `json` does not know, as applications write it: sets as lists, the rest as text."""
    if isinstance(value, set):
        return sorted(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value)
