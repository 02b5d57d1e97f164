"""The checker of a storm finds what is wrong: a sound story, and each way to spoil it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from pandora_db.store.operation import operation
from tests.faults.check import check
from tests.faults.findings import INVARIANTS
from tests.faults.journal import Calls, Journal, noting, under
from tests.faults.nursery import ROOT
from tests.faults.pipeline_storm import TERMS
from tests.faults.stories import SPOILED, Story, lose_a_job, tell


async def test_a_sound_story_holds(db_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "journals"
    folder.mkdir()
    await tell(db_url, folder)

    found = await check(db_url, folder)

    assert found.broken == [], found.report()
    assert found.checked.keys() == INVARIANTS.keys()


@pytest.mark.parametrize("what", SPOILED)
async def test_what_is_spoiled_is_named(what: str, sqlite_story: Story) -> None:
    SPOILED[what](sqlite_story)

    found = await check(f"sqlite:///{sqlite_story.path}", sqlite_story.journal.parent)

    assert found.wrong[what], found.report()
    assert what.split(":", 1)[0] in found.broken


async def test_what_was_not_looked_at_does_not_hold(db_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "journals"
    folder.mkdir()
    (folder / "empty.jsonl").write_text(json.dumps({"kind": "terms", "at": 0.0, **TERMS}) + "\n")

    found = await check(db_url, folder)

    assert {"I1", "I2", "I3", "I4", "I5", "I7", "I8", "I10"} <= set(found.broken)


async def test_the_line_that_a_kill_cut_short_is_no_promise(sqlite_story: Story) -> None:
    with sqlite_story.journal.open("a") as file:
        file.write('{"kind": "intent", "op": "insert_')

    found = await check(f"sqlite:///{sqlite_story.path}", sqlite_story.journal.parent)

    assert found.broken == [], found.report()


def test_the_program_ends_with_1(sqlite_story: Story) -> None:
    command = [
        sys.executable, "-m", "tests.faults.check",
        f"sqlite:///{sqlite_story.path}", str(sqlite_story.journal.parent),
    ]  # fmt: skip
    sound = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    lose_a_job(sqlite_story)
    spoiled = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)

    assert (sound.returncode, json.loads(sound.stdout)["broken"]) == (0, [])
    assert spoiled.returncode == 1
    assert "I1" in json.loads(spoiled.stdout)["broken"]


@pytest.fixture
async def sqlite_story(tmp_path: Path, _migrated_file: Path) -> Story:
    path, folder = tmp_path / "story.db", tmp_path / "journals"
    path.write_bytes(_migrated_file.read_bytes())
    folder.mkdir()
    await tell(f"sqlite:///{path}", folder)
    return Story(path, folder)


@pytest.mark.postgres
async def test_a_session_that_is_left_is_named(
    migrated_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.faults.check_engine.LATE", 0.2)
    await tell(migrated_dsn, tmp_path)

    with psycopg.connect(migrated_dsn, application_name="storm w7"):
        found = await check(migrated_dsn, tmp_path)

    assert found.wrong["I11: something is left open"], found.report()


def test_of_calls_that_are_made_as_one_each_is_noted_with_its_own_id(tmp_path: Path) -> None:
    """However often the library's supply of ids is renewed meanwhile."""
    journal = Journal(tmp_path / "journal.jsonl")
    calls = [journal.intend("finish_job") for _ in range(200)]
    with noting(), under(Calls(calls)):
        made = [operation(None).id for _ in calls]
    journal.close()

    lines = map(json.loads, (tmp_path / "journal.jsonl").read_text().splitlines())
    noted = [(line["call"], line["id"]) for line in lines if line["kind"] == "id"]
    assert noted == list(enumerate(made, start=1))
