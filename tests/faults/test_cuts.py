"""A connection that is cut in the middle of a call (T7)."""

from __future__ import annotations

import pytest

from tests.faults.calls import WRITES, Call
from tests.faults.cuts import CALLS, SEARCH, cut_everywhere


@pytest.mark.parametrize("times", [1, 3], ids=["cut once", "cut three times"])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.name)
async def test_a_call_whose_connection_is_cut_has_its_true_outcome(
    migrated_dsn: str, call: Call, times: int, seed: int
) -> None:
    tally = await cut_everywhere(migrated_dsn, seed, step=101, times=times, calls=[call])

    assert tally["cut"] > 0


@pytest.mark.parametrize("call", WRITES, ids=lambda call: call.name)
async def test_a_call_whose_search_is_cut_too_has_its_true_outcome(
    migrated_dsn: str, call: Call, seed: int
) -> None:
    await cut_everywhere(migrated_dsn, seed, step=997, times=SEARCH, calls=[call])
