"""One of many processes that call `recover()` at the same instant; a child of the nursery."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from pandora_db import ConnectionFailed, JobDb, LockTimeout, OutcomeUnknown
from tests.faults.leaks import NAME
from tests.faults.nursery import say

NOT_YET = (ConnectionFailed, OutcomeUnknown, LockTimeout)


async def main(name: str, url: str, gate: str) -> None:
    """Call `recover()` at the time (of the monotonic clock) that is written to the file `gate`."""
    settings = {"application_name": NAME, "sweep": None, "wait_for_server": 20.0}
    async with JobDb.open(url, **settings) as db:
        say("ready", worker=name)
        while not Path(gate).exists():
            await asyncio.sleep(0.002)
        await asyncio.sleep(max(0.0, float(Path(gate).read_text()) - time.monotonic()))
        began = time.monotonic()
        report = None
        while report is None:
            try:
                report = await db.recover()
            except NOT_YET as error:
                say("again", worker=name, error=type(error).__name__)
                await asyncio.sleep(0.05)
        say(
            "recovered", worker=name, jobs=report.requeued, failed=report.failed,
            began=began, ended=time.monotonic(),
        )  # fmt: skip
