"""Which waiting jobs may be worked on without exceeding the limits of a stage."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pandora_db.drivers.base import Unit
from pandora_db.models.claim import Limits

_AT_ONCE = 500


class _Busy:
    """How many jobs are at work for one kind of key, and which keys are full."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._counts: Counter[Any] = Counter()

    def add(self, key: object, count: int = 1) -> None:
        if key is not None:
            self._counts[key] += count

    def is_full(self, key: object) -> bool:
        return self._most is not None and key is not None and self._counts[key] >= self._most

    @property
    def full(self) -> list[Any]:
        return [key for key in self._counts if self.is_full(key)]


async def choose_within(
    unit: Unit, args: dict[str, Any], flags: frozenset[str], limit: int, limits: Limits
) -> list[int]:
    """Up to `limit` ids in the order of the queue; nobody else may claim meanwhile."""
    keys = (_Busy(limits.author), _Busy(limits.guild), _Busy(limits.concurrency_key))
    at_work = 0
    for *found, count in await unit.read("count_busy", args):
        at_work += count
        for busy, key in zip(keys, found, strict=True):
            busy.add(key, count)
    room = limit if limits.stage is None else min(limit, limits.stage - at_work)
    chosen: dict[int, None] = {}
    while len(chosen) < room:
        # From the head each time: full keys are left out, and those that were chosen are few.
        many = _AT_ONCE + len(chosen)
        authors, guilds, concurrency_keys = (busy.full for busy in keys)
        full = {"full_authors": authors, "full_guilds": guilds, "full_keys": concurrency_keys}
        rows = await unit.read("find_candidates", args | full | {"limit": many}, flags)
        for job_id, *found in rows:
            if len(chosen) == room:
                break
            full_now = any(busy.is_full(key) for busy, key in zip(keys, found, strict=True))
            if full_now or job_id in chosen:
                continue
            chosen[job_id] = None
            for busy, key in zip(keys, found, strict=True):
                busy.add(key)
        if len(rows) < many:
            break
    return list(chosen)
