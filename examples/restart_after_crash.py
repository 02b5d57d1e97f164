"""Start again after a crash (libpndb's third common pattern).

python -m examples.restart_after_crash [URL]     (a temporary file when no URL is given)

A worker is killed in the middle of an encode. The document fails every job that was found at work.
Here the lease of the dead worker runs out, the job waits again, and the next worker goes on from
the checkpoint. A job that never had a lease, moved by a plain `update_stage`, is not touched unless
one asks for it.

The worker is a second process on the file: a SQLite that is not made for that (docs/connect.md)
warns once, which does no harm here.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from examples import url_argument
from pandora_db import Job, JobDb, Settings, Stage

SEGMENTS = 5
KILLED_AFTER = 2
# Short, so that the example is; the default is a lease of 30 seconds.
LEASE = Settings(lease=1.0, heartbeat=0.3)


async def encode(url: str) -> None:
    """Encode what waits, segment by segment, and say so."""
    async with JobDb.open(url, settings=LEASE) as db:
        for claim in await db.claim_jobs(Stage.DOWNLOADED, into=Stage.ENCODING):
            state = await db.load_checkpoint(claim) or {"done": 0}
            while state["done"] < SEGMENTS:
                await asyncio.sleep(0.05)  # stands for the real work
                state["done"] += 1
                await db.save_checkpoint(claim, state)
                print(f"attempt {claim.attempt}: segment {state['done']}", flush=True)
                if claim.attempt == 1 and state["done"] == KILLED_AFTER:
                    await asyncio.sleep(3600)  # here it is killed
            await db.finish_job(claim, Stage.ENCODED)


def encode_and_be_killed(url: str) -> None:
    """A worker process that is killed, with SIGKILL, after its second segment."""
    command = [sys.executable, "-m", "examples.restart_after_crash", "--worker", url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:  # noqa: S603
        assert worker.stdout is not None
        for line in worker.stdout:
            print(line, end="")
            if line.endswith(f"segment {KILLED_AFTER}\n"):
                worker.kill()


async def main(url: str) -> None:
    """Crash once, and start again."""
    async with JobDb.open(url, settings=LEASE, sweep=None) as db:
        await db.init_schema()
        job_id, plain = await db.insert_jobs([Job(author="mika"), Job(author="noor")])
        await db.update_stage(job_id, Stage.DOWNLOADED)
        await db.update_stage(plain, Stage.UPLOADING)

        await asyncio.to_thread(encode_and_be_killed, url)
        print("killed")

        # Every handle does this by itself; here it is done at once, to show the report.
        report = await db.recover(wait=10)
        print(f"taken back: {report.requeued}; at work without a lease: {report.unowned}")
        await encode(url)

        # What the document does, for jobs that no worker can have in hand any more.
        report = await db.recover(unowned="fail")
        print(f"failed: {report.failed}")
        for event in await db.history(job_id):
            what = event.kind.name.lower()
            print(f"  {what:<9} attempt {event.attempt}  {event.detail or ''}".rstrip())


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(encode(sys.argv[2]))
    elif given := url_argument(__doc__):
        asyncio.run(main(given))
    else:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(main(str(Path(folder) / "pandora.db")))
