"""Workers that come back after their jobs were taken (T2)."""

from __future__ import annotations

from tests.faults.zombie import WRITES
from tests.faults.zombies import TOLD, wake_zombies


async def test_every_late_write_is_refused(db_url: str, seed: int) -> None:
    verdict, delays = await wake_zombies(db_url, seed, rounds=1, jobs=8)

    assert not verdict.wrong, (verdict.wrong, verdict.notes)
    assert verdict.tally["refused"] == 3 * 8 * len(WRITES)
    assert verdict.tally["before it was told"] > 8 * len(WRITES)
    assert len(delays) == 5
    assert max(delays) < TOLD[1] + 1.0
