"""What a handle does by itself and cannot do for a while is told of twice, not at each try."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from pandora_db import ConnectionFailed
from pandora_db.runtime import retention
from pandora_db.runtime.retention import Retention
from pandora_db.services.sweeper import Sweeper
from tests.support.waiting import wait_until


class Failing:
    """Fails some times, then does nothing."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left = times
        self.calls = 0
        self.error = error

    def call(self) -> None:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error

    async def has_lapsed(self) -> bool:
        self.call()
        return False

    def marked(self) -> dict[int, float]:
        self.call()
        return {}

    def sweep(self) -> None: ...


ERRORS = [ConnectionFailed("the server is away", target="there"), ZeroDivisionError("a mistake")]


@pytest.mark.parametrize("error", ERRORS)
async def test_the_sweeper_tells_of_an_outage_once(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    failing: Any = Failing(4, error)
    sweeper = Sweeper(failing, 0.01)
    sweeper.start()
    await wait_until(lambda: failing.calls > 6)
    await sweeper.stop()

    first, last = caplog.messages
    assert first.startswith("the sweep for lost workers failed")
    assert last.startswith("the sweep for lost workers works again, after 0.")


@pytest.mark.parametrize("error", [*ERRORS, OSError("no space left")])
async def test_the_removal_of_folders_tells_of_an_outage_once(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(retention, "_LEAST", 0.01)
    failing: Any = Failing(4, error)
    removing = Retention(failing, failing, 0.0)
    removing.start()
    await wait_until(lambda: failing.calls > 6)
    await removing.stop()

    first, last = caplog.messages
    assert first.startswith("the folders of jobs that have ended were not removed")
    assert last.startswith("folders can be removed again, after 0.")


async def test_a_second_outage_is_told_of_again(caplog: pytest.LogCaptureFixture) -> None:
    failing: Any = Failing(2, ERRORS[0])
    sweeper = Sweeper(failing, 0.01)
    sweeper.start()
    await wait_until(lambda: failing.calls > 3)
    failing.left = 2
    await wait_until(lambda: not failing.left)
    await asyncio.sleep(0.05)
    await sweeper.stop()
    assert len(caplog.messages) == 2
