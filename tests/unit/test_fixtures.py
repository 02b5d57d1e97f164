"""The fixtures of `pandora_db.testing.fixtures`, in a suite that is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

pytest_plugins = ["pytester"]

INI = """
[pytest]
asyncio_mode = auto
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
SUITE = """
import pytest
from pandora_db import JobDb, Stage
from pandora_db.testing import make_job

@pytest.mark.parametrize("again", [1, 2])
async def test_memory(job_db, again):
    assert await job_db.insert_job(make_job()) == 1

async def test_file(job_db_file, job_db_path):
    job_id = await job_db_file.insert_job(make_job())
    async with JobDb.open(job_db_path) as other:
        assert await other.get_job(job_id)

async def test_seeded(seeded_job_db):
    assert await seeded_job_db.count_jobs() == len(Stage)
"""


def test_a_users_suite_gets_databases_as_fixtures(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    pytester.makeini(INI)
    pytester.makeconftest('pytest_plugins = ["pandora_db.testing.fixtures"]')
    pytester.makepyfile(SUITE)

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    result.assert_outcomes(passed=4)
