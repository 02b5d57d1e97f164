"""Row 11: what it costs to be there, each time in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from compileall import compile_dir
from pathlib import Path

import pandora_db
from benchmarks.rounds import Plan, Result

_IMPORT = """
import time
start = time.perf_counter()
import pandora_db
print((time.perf_counter() - start) * 1000)
"""
_IDLE = """
import asyncio, sys
from pandora_db import JobDb

async def main():
    async with JobDb.open(sys.argv[1]) as db:
        await db.init_schema()
        await asyncio.sleep(0.2)
        with open("/proc/self/status") as status:
            (line,) = (line for line in status if line.startswith("VmRSS"))
        print(int(line.split()[1]) / 1024)

asyncio.run(main())
"""


def start(plan: Plan) -> list[Result]:
    """Time of the import, and memory of an idle handle."""
    # As pip installs it: a fresh checkout would compile it in each process.
    compile_dir(Path(pandora_db.__file__).parent, quiet=1)
    imports = [_figure(_IMPORT) for _ in range(plan.rounds + 1)]
    idle = [_figure(_IDLE, f"{plan.folder}/idle-{n}.db") for n in range(plan.rounds)]
    return [_result("11-import", imports[1:]), _result("11-memory", idle)]


def _figure(program: str, *arguments: str) -> float:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    return float(done.stdout)


def _result(key: str, figures: list[float]) -> Result:
    return Result(key, [(figure, 0.0, figure) for figure in figures])
