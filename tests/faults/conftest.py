"""Fixtures of the faults."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import PostgresDatabases


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of every random choice; PANDORA_FAULT_SEED repeats one. A failure shows it."""
    chosen = int(os.environ.get("PANDORA_FAULT_SEED") or secrets.randbelow(2**31))
    request.node.add_report_section("setup", "seed", str(chosen))
    return chosen


@pytest.fixture
def migrated_dsn(postgres_databases: PostgresDatabases) -> Iterator[str]:
    """The DSN of a new PostgreSQL database with our tables."""
    with postgres_databases.fresh(migrated=True) as dsn:
        yield dsn
