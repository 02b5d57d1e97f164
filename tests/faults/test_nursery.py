"""The nursery takes its children along, also when who started it is killed."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from pandora_db import JobDb
from tests.faults.nursery import ROOT
from tests.support.waiting import wait_until


async def test_nobody_is_left_when_its_starter_is_killed(tmp_path: Path) -> None:
    async with JobDb.open(tmp_path / "1.db") as db:
        await db.init_schema()
    starter = (
        "import asyncio\n"
        "from tests.faults.nursery import Nursery\n"
        "async def main():\n"
        "    heard = asyncio.Queue()\n"
        "    async with Nursery('tests.faults.stage_worker', heard.put_nowait) as nursery:\n"
        f"        for name in 'abc':\n"
        f"            nursery.start(name, 'sqlite:///{tmp_path}/1.db', 1, '{tmp_path}')\n"
        "            await heard.get()\n"
        "        print('begun', flush=True)\n"
        "        await heard.get()\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", starter], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        children = _group(process.pid)
        process.kill()
    assert len(children) >= 5  # the starter, the nursery, and three workers

    await wait_until(lambda: not _group(process.pid))


def _group(leader: int) -> list[int]:
    """The processes of a group that are not dead."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, group = (entry / "stat").read_text().rsplit(")", 1)[1].split()[:3]
            if int(group) == leader and state != "Z":
                found.append(int(entry.name))
    return found
