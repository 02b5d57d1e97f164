"""kill -9 of workers in the middle of their jobs (T1)."""

from __future__ import annotations

from tests.faults.worker_kills import kill_workers


async def test_jobs_of_killed_workers_are_taken_up_again_once(db_url: str, seed: int) -> None:
    verdict = await kill_workers(db_url, seed, kills=8, workers=4, longest=0.4)

    assert not verdict.wrong, verdict.report()
    assert verdict.tally["kills"] >= 8
    assert verdict.tally["poison jobs"] >= 1
    assert verdict.recovery
    assert verdict.again
