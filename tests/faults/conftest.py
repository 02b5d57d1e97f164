"""Fixtures of the faults."""

from __future__ import annotations

import os
import secrets

import pytest


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """The seed of every random choice; PANDORA_FAULT_SEED repeats one. A failure shows it."""
    chosen = int(os.environ.get("PANDORA_FAULT_SEED") or secrets.randbelow(2**31))
    request.node.add_report_section("setup", "seed", str(chosen))
    return chosen
