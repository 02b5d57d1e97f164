"""What is around the work: the queue, its pages, folders, settings, the unit."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from examples.encode_bot.failure import RefusedError
from examples.encode_bot.pages import PAGE, read_page
from examples.encode_bot.requests import source_of, submit
from examples.encode_bot.settings import Settings, SettingsError, read_settings
from pandora_db import Job, JobDb

ROOT = Path(__file__).parents[3]
BOT = ROOT / "examples" / "encode_bot"


async def test_nobody_gets_more_places_than_there_are(db: JobDb, settings: Settings) -> None:
    settings = dataclasses.replace(settings, user_limit=2, queue_limit=5)

    async def ask(user: int) -> str:
        try:
            await submit(db, Job(author=f"user {user}", author_id=user), settings)
        except RefusedError as refused:
            return str(refused)
        return "taken"

    answers = await asyncio.gather(*(ask(user) for user in (1, 1, 1, 1, 2, 3, 4, 5, 6)))
    assert answers.count("taken") == 5 == await db.get_queue_length()
    assert await db.count_jobs(author_id=1, archived=False) <= 2
    assert any("the queue is full: 5 jobs" in answer for answer in answers)
    assert "queue is full" in await ask(7)
    await db.cancel_job((await db.get_active_jobs())[-1].job_id)
    mine = [job for job in await db.get_active_jobs() if job.author_id == 1]
    while len(mine) < 2:
        await submit(db, Job(author="user 1", author_id=1), settings)
        mine = [job for job in await db.get_active_jobs() if job.author_id == 1]
    await db.cancel_job(next(j.job_id for j in await db.get_active_jobs() if j.author_id != 1))
    assert "you have 2 jobs in the queue" in await ask(1)


async def test_pages_miss_nothing_while_jobs_arrive(db: JobDb) -> None:
    ids = [
        await db.insert_job(Job(author="noor", author_id=42, link=f"https://e.example/{n}"))
        for n in range(2 * PAGE + 1)
    ]
    await db.insert_job(Job(author="mika", author_id=41))
    first = await read_page(db, 42)
    await db.insert_job(Job(author="noor", author_id=42, link="https://e.example/late"))
    second = await read_page(db, 42, first.older)
    third = await read_page(db, 42, second.older)
    assert third.older is None
    lines = [*first.text.splitlines(), *second.text.splitlines(), *third.text.splitlines()]
    assert [int(line.split("**")[1]) for line in lines] == ids[::-1]
    assert (await read_page(db, 7)).text == "there are no jobs of yours"


@pytest.mark.parametrize("link", ["ftp://example.com/a.mkv", "a.mkv", "http://", "http://[1/a.mkv"])
def test_what_is_no_link_is_refused(link: str, settings: Settings) -> None:
    with pytest.raises(RefusedError, match="no link"):
        source_of(link, None, settings)


def test_the_name_of_a_link(settings: Settings) -> None:
    found = source_of(" https://example.com/videos/a%20talk.mkv?x=1 ", None, settings)
    assert found.title == "a talk.mkv"
    assert found.link == "https://example.com/videos/a%20talk.mkv?x=1"
    assert source_of("https://example.com", None, settings).title == "example.com"
    with pytest.raises(RefusedError, match="one of them"):
        source_of(None, None, settings)


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, "DISCORD_TOKEN is not set; examples/encode_bot/README.md says"),
        ({"DISCORD_TOKEN": "x", "ENCODE_BOT_QUEUE": "many"}, "ENCODE_BOT_QUEUE is 'many'"),
        ({"DISCORD_TOKEN": "x", "ENCODE_BOT_QUEUE": "0"}, "a number from 1 to 10000"),
        ({"DISCORD_TOKEN": "x", "ENCODE_BOT_LEASE": "nan"}, "ENCODE_BOT_LEASE is 'nan'"),
        ({"DISCORD_TOKEN": "x", "ENCODE_BOT_QEUE": "3"}, "ENCODE_BOT_QEUE is no setting"),
        ({"DISCORD_TOKEN": "x", "ENCODE_BOT_INTRO": "/no/such"}, "there is no such file"),
        ({"DISCORD_TOKEN": "x", "ENCODE_BOT_PRIVATE_LINKS": "true"}, "'true'; expected yes or no"),
        ({"DISCORD_TOKEN": "x", "ENCODE_BOT_PUBLIC_URL": "foo"}, "'foo'; expected http://"),
        ({"DISCORD_TOKEN": "x", "ENCODE_BOT_PUBLIC_URL": "ftp://a"}, "'ftp://a'; expected http://"),
        ({"DISCORD_TOKEN": "x", "ENCODE_BOT_PUBLIC_URL": "http://["}, "expected http://"),
    ],
)
def test_a_wrong_setting_is_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_settings(environ)


@pytest.mark.parametrize("words", ["yes", "no", ""])
def test_private_links_are_a_matter_of_yes_or_no(words: str) -> None:
    environ = {"DISCORD_TOKEN": "x", "ENCODE_BOT_PRIVATE_LINKS": words}
    assert read_settings(environ).private_links is (words == "yes")


def test_the_token_is_in_no_text(settings: Settings) -> None:
    assert "secret" not in repr(settings)


def test_a_library_that_is_missing_is_named() -> None:
    code = (
        "import runpy, sys; sys.modules['discord'] = None; "
        "runpy.run_module('examples.encode_bot', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1
    assert done.stderr == "discord is missing: pip install -e '.[bot]'\n"


def test_every_setting_is_in_the_readme() -> None:
    source = (BOT / "settings.py").read_text(encoding="utf-8")
    readme = (BOT / "README.md").read_text(encoding="utf-8")
    for word in set(source.replace('"', " ").split()):
        if word.startswith(("ENCODE_BOT_", "DISCORD_TOKEN", "PANDORA_DB_URL")):
            name = word.strip(",;)")
            if name != "ENCODE_BOT_":
                assert f"`{name}`" in readme, name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_the_unit_is_one(tmp_path: Path) -> None:
    unit = (BOT / "encode-bot.service").read_text(encoding="utf-8")
    program = "/opt/encode-bot/.venv/bin/python"
    assert program in unit
    copy = tmp_path / "encode-bot.service"
    copy.write_text(unit.replace(program, sys.executable), encoding="utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
