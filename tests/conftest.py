"""Fixtures of the suite: each test has a database of its own, on SQLite, on PostgreSQL or on both.

- `db`: an open, migrated handle; a test that takes it runs once on each dialect
- `db_url`: the URL behind `db`; `raw`: SQL on it by another driver (`raw("SELECT …")`)
- `empty_url`: the URL of a database without our tables, once on each dialect
- `sqlite_path`, `postgres_dsn`: an unmigrated database of that dialect only; `migrated_dsn`: a
  migrated one on PostgreSQL
- `dialect`: "sqlite" or "postgres", as the test is running on
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from pandora_db import JobDb
from tests.support.databases import PostgresDatabases, migrate
from tests.support.pipelines import forgotten
from tests.support.provider import NoServerError, Server, running_server
from tests.support.raw import Raw
from tests.support.report import NO_POSTGRES, POSTGRES_PROPERTY, PostgresReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(PostgresReport(), "pandora-postgres-report")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        fixtures = getattr(item, "fixturenames", ())
        if "postgres_dsn" in fixtures or "postgres_databases" in fixtures:
            item.add_marker("postgres")


@pytest.fixture(autouse=True)
def _pipelines() -> Iterator[None]:
    """What a test defines is not there for the next one."""
    with forgotten():
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The PostgreSQL server of this session."""
    try:
        with running_server(os.environ) as server:
            yield server
    except NoServerError as error:
        pytest.skip(f"{NO_POSTGRES}{error}")


@pytest.fixture(scope="session")
def _databases(postgres_server: Server) -> Iterator[PostgresDatabases]:
    databases = PostgresDatabases(postgres_server)
    yield databases
    databases.close()


@pytest.fixture
def postgres_databases(
    _databases: PostgresDatabases, request: pytest.FixtureRequest
) -> PostgresDatabases:
    """Several databases for one test: `with postgres_databases.fresh(migrated=True) as dsn`."""
    request.node.user_properties.append((POSTGRES_PROPERTY, str(_databases.server)))
    return _databases


@pytest.fixture
def postgres_dsn(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """The DSN of a new PostgreSQL database without any table."""
    with postgres_databases.fresh() as dsn:
        yield dsn


@pytest.fixture
def migrated_dsn(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """The DSN of a new PostgreSQL database with our tables."""
    with postgres_databases.fresh(migrated=True) as dsn:
        yield dsn


@pytest.fixture
def sqlite_path(tmp_path: Path) -> Path:
    """Where a SQLite file may be made; there is none yet."""
    return tmp_path / "pandora.db"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def dialect(request: pytest.FixtureRequest) -> str:
    """The dialect that this run of the test is on."""
    return str(request.param)


@pytest.fixture
def empty_url(dialect: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database without our tables: no file at all, or an empty database."""
    if dialect == "sqlite":
        return f"sqlite:///{request.getfixturevalue('sqlite_path')}"
    dsn: str = request.getfixturevalue("postgres_dsn")
    return dsn


@pytest.fixture(scope="session")
def _migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "pandora.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def db_url(dialect: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a migrated database."""
    if dialect == "sqlite":
        path: Path = request.getfixturevalue("sqlite_path")
        shutil.copy(request.getfixturevalue("_migrated_file"), path)
        yield f"sqlite:///{path}"
        return
    databases: PostgresDatabases = request.getfixturevalue("postgres_databases")
    with databases.fresh(migrated=True) as dsn:
        yield dsn


@pytest.fixture
async def db(db_url: str) -> AsyncIterator[JobDb]:
    """An open handle on a migrated database, which looks for lost workers' jobs only when asked."""
    async with JobDb.open(db_url, sweep=None) as handle:
        yield handle


@pytest.fixture
def raw(db_url: str) -> Raw:
    """SQL by another driver, on the database behind `db`."""
    return Raw(db_url)
