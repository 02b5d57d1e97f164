"""Random calls against a model, on both dialects at once (T25)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.model import check_model
from tests.support.databases import migrate


@pytest.mark.postgres
def test_both_dialects_do_what_the_model_says(tmp_path: Path, migrated_dsn: str, seed: int) -> None:
    migrate(f"sqlite:///{tmp_path}/model.db")
    urls = {"sqlite": f"sqlite:///{tmp_path}/model.db", "postgres": migrated_dsn}

    tally = check_model(urls, seed, runs=20, steps=30, shrink=False)

    assert tally["steps"] > 200, tally
