"""What the tests of the examples share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.encode_queue import run_queue


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("queue")
    first = run_queue(folder)
    (folder / "first.json").write_text(json.dumps(first))
    return folder


@pytest.fixture
def first(material: Path) -> dict[str, Any]:
    """What the first run answered."""
    document: dict[str, Any] = json.loads((material / "first.json").read_text())
    return document
