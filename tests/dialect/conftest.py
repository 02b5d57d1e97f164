"""Fixtures of the tests of one dialect."""

from __future__ import annotations

import pytest


@pytest.fixture
def url(migrated_dsn: str) -> str:
    """The DSN of a new PostgreSQL database with our tables."""
    return migrated_dsn
