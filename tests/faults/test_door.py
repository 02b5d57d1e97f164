"""Cancelling the ways in and out of a database (T15)."""

from __future__ import annotations

from tests.faults.door import cancel_connect, cancel_init_schema, wiper
from tests.faults.stepping import Moment


async def test_connect_open_and_close_cancelled_anywhere_leak_nothing(db_url: str) -> None:
    tally = await cancel_connect(db_url)

    assert tally["points"] > 10


async def test_init_schema_cancelled_anywhere_is_whole_or_absent(
    empty_url: str, dialect: str
) -> None:
    moments = (Moment.WAITING, Moment.AGAIN)
    tally = await cancel_init_schema(
        empty_url, wiper(empty_url), moments, step=5 if dialect == "sqlite" else 11
    )

    assert tally["points"] > 10
