"""pytest fixtures: `pytest_plugins = ["pandora_db.testing.fixtures"]` in a `conftest.py`.

- `job_db`: an empty, migrated database of the test's own, in memory
- `job_db_file`: the same in a file at `job_db_path`, for tests of several handles or processes
- `seeded_job_db`: `job_db` with sample jobs at every stage
- `job_db_url`: None, or a PostgreSQL URL that `job_db` makes a schema of its own in; override it

Needs pytest and pytest-asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from pandora_db.testing.databases import new_test_db
from pandora_db.testing.seeding import seed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from pandora_db.db import JobDb


@pytest.fixture
def job_db_url() -> str | None:
    """Where `job_db` lives: None is memory, a PostgreSQL URL is a schema of its own there."""
    return None


@pytest_asyncio.fixture
async def job_db(job_db_url: str | None) -> AsyncIterator[JobDb]:
    """An open handle on an empty, migrated database that nobody else uses."""
    async with new_test_db(job_db_url) as db:
        yield db


@pytest.fixture
def job_db_path(tmp_path: Path) -> Path:
    """Where the file of `job_db_file` is."""
    return tmp_path / "pandora.db"


@pytest_asyncio.fixture
async def job_db_file(job_db_path: Path) -> AsyncIterator[JobDb]:
    """An open handle on an empty, migrated SQLite file, deleted afterwards."""
    async with new_test_db(temporary_file=job_db_path) as db:
        yield db


@pytest_asyncio.fixture
async def seeded_job_db(job_db: JobDb) -> JobDb:
    """`job_db` with one sample job at every stage."""
    await seed(job_db)
    return job_db
