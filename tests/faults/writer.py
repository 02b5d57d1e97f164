"""A process that writes and reports each acknowledged write on its standard output, to be killed.

Run as `python -m tests.faults.writer URL SEED`; every line is JSON, written in one piece.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys

from pandora_db import JobDb, Stage
from tests.faults.calls import make_job

TASKS = 20
STAGES = (Stage.DOWNLOADING, Stage.DOWNLOADED, Stage.ENCODING, Stage.ENCODED, Stage.UPLOADING)


def say(kind: str, **facts: object) -> None:
    os.write(1, (json.dumps({"kind": kind, **facts}) + "\n").encode())


async def _work(db: JobDb, author: str, chance: random.Random) -> None:
    for number in range(10**9):
        link = f"{author}/{number}"
        say("intent", link=link)
        if chance.random() < 0.1:
            jobs = [make_job(author, external_id=f"{link}/{n}") for n in range(5)]
            for job_id in await db.insert_jobs(jobs):
                say("insert", job_id=job_id)
            continue
        job_id = await db.insert_job(make_job(author, external_id=link))
        say("insert", job_id=job_id)
        if chance.random() < 0.3:
            async with db.transaction() as tx:
                await tx.update_stage(job_id, Stage.ENCODED)
                await tx.update_job(job_id, output_file=link)
            say("transaction", job_id=job_id)
        else:
            for stage in STAGES[: chance.randrange(len(STAGES) + 1)]:
                await db.update_stage(job_id, stage)
                say("stage", job_id=job_id, stage=stage.value)
        if chance.random() < 0.3:
            await db.archive_job(job_id)
            say("archive", job_id=job_id)


async def main(url: str, seed: str) -> None:
    async with JobDb.open(url) as db:
        await asyncio.gather(
            *(_work(db, f"{seed} {task}", random.Random(f"{seed} {task}")) for task in range(TASKS))
        )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
