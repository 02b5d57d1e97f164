"""Cancelling any public call at any await point (T15)."""

from __future__ import annotations

import pytest

from tests.faults.calls import EVERY, Call
from tests.faults.cancellation import cancel_everywhere


@pytest.mark.parametrize("call", EVERY, ids=lambda call: call.name)
async def test_a_call_cancelled_at_any_point_leaves_nothing_behind(db_url: str, call: Call) -> None:
    tally = await cancel_everywhere(db_url, [call], thorough=False)

    assert tally["points"] > 0
