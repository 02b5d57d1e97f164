"""For the tests of programs that use `pandora_db`: databases, jobs and sample data on the spot.

    from pandora_db.testing import insert_job_at, make_job, new_test_db

    async def test_a_failed_job_can_be_retried():
        async with new_test_db() as db:
            job_id = await insert_job_at(db, Stage.FAILED)
            await db.retry_job(job_id)

With pytest and pytest-asyncio, `pytest_plugins = ["pandora_db.testing.fixtures"]` in a
`conftest.py` gives the same as fixtures. Nothing here imports pytest otherwise.
"""

from __future__ import annotations

from pandora_db.testing.clock import Clock, NeverIdle, run_until_idle
from pandora_db.testing.databases import new_test_db, reset
from pandora_db.testing.factories import JobFields, insert_job_at, make_job
from pandora_db.testing.jobs import run_job
from pandora_db.testing.seeding import seed

__all__ = [
    "Clock",
    "JobFields",
    "NeverIdle",
    "insert_job_at",
    "make_job",
    "new_test_db",
    "reset",
    "run_job",
    "run_until_idle",
    "seed",
]
