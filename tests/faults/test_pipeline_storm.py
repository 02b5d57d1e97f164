"""The whole pipeline while its processes are killed, paused, ended and cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.pipeline_storm import run_storm


@pytest.mark.slow
async def test_every_invariant_holds(db_url: str, dialect: str, seed: int, tmp_path: Path) -> None:
    folder = tmp_path / "journals"
    folder.mkdir()

    report = await run_storm(
        db_url, seed, folder, jobs=60, workers=4, rate=8.0, pauses=(0.2, 0.6)
    )  # fmt: skip

    assert report["broken"] == [], report
    figures = report["figures"]
    assert figures["jobs"] == 60
    assert figures["processes killed"] >= 2
    assert figures["processes paused"] >= 1
    assert figures["processes told to end"] >= 4
    assert figures["executions beyond the first"] > 0
    if dialect == "postgres":
        assert figures["connections cut"] >= 2
