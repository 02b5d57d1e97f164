"""kill -9 of a process that writes."""

from __future__ import annotations

from tests.faults.kills import WRONG, kill_writers


async def test_every_acknowledged_write_survives_kill_9(db_url: str, seed: int) -> None:
    tally = await kill_writers(db_url, seed, kills=10, longest=0.25)

    assert tally["kills"] == 10
    assert tally["acknowledged"] > 100
    assert not [kind for kind in WRONG if tally[kind]], tally
