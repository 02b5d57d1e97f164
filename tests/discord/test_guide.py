"""The bot of the guide, as it stands there, with the real discord.py, killed and started again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pandora_db import JobDb
from tests.discord.stand_in import TOKEN, Rules, StandIn
from tests.examples.blocks import read_blocks
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    guide = (ROOT / "docs" / "discord.md").read_text(encoding="utf-8")
    (program,) = [block.source for block in read_blocks(guide) if block.file == "bot.py"]
    (tmp_path / "bot.py").write_text(program, encoding="utf-8")
    return tmp_path


async def start(stand_in: StandIn, folder: Path, token: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.discord.stand_in.library", stand_in.url, "bot",
        cwd=folder, stdout=PIPE, stderr=STDOUT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "DISCORD_TOKEN": token},
    )  # fmt: skip


@asynccontextmanager
async def running(stand_in: StandIn, folder: Path) -> AsyncIterator[Process]:
    """The bot as a process; it is killed at the end if it still runs."""
    process = await start(stand_in, folder, TOKEN)
    try:
        await stand_in.wait_connected()
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        said, _ = await process.communicate()
        print(said.decode())


async def test_one_message_from_the_request_to_the_end_over_a_kill(folder: Path) -> None:
    async with StandIn(Rules()) as stand_in:
        async with running(stand_in, folder) as bot:
            used = await stand_in.slash("encode", {"link": "https://example.com/a.mkv"})
            message = used.message()
            await wait_until(lambda: "encoding" in message.content)
            bot.kill()
            await bot.wait()
        await wait_until(lambda: not stand_in.connected)
        async with running(stand_in, folder):
            await wait_until(lambda: message.content == "**Job 1** is done", timeout=60)
        assert message.components == []
        assert [each.message_id for each in stand_in.messages()] == [message.message_id]
        assert stand_in.too_many == []
    async with JobDb.open(f"sqlite:///{folder / 'bot.db'}") as db:
        kinds = [event.kind.name for event in await db.history(1)]
    assert kinds.count("CLAIMED") == 2
    assert "RECOVERED" in kinds


async def test_the_button_cancels_and_ctrl_c_ends_the_bot_cleanly(folder: Path) -> None:
    async with StandIn(Rules()) as stand_in, running(stand_in, folder) as bot:
        used = await stand_in.slash("encode", {"link": "https://example.com/a.mkv"})
        message = used.message()
        await wait_until(lambda: "encoding" in message.content and message.buttons())
        await stand_in.click(message, "cancel:1")
        await wait_until(lambda: message.content == "**Job 1** was cancelled")
        assert message.components == []
        other = await stand_in.slash("encode", {"link": "https://example.com/b.mkv"})
        await wait_until(lambda: "encoding" in other.text())
        bot.send_signal(signal.SIGINT)
        await asyncio.wait_for(bot.wait(), 30)
        assert "queued" in other.text()
    async with JobDb.open(f"sqlite:///{folder / 'bot.db'}") as db:
        job = await db.get_job(2)
        assert job is not None
        # Given back with its checkpoint, not lost: the next start takes it up at once.
        assert (await db.history(2))[-1].kind.name == "RELEASED"


async def test_a_login_that_fails_is_the_error_that_is_told(folder: Path) -> None:
    async with StandIn() as stand_in:
        bot = await start(stand_in, folder, "MTAw.not.this")
        said, _ = await asyncio.wait_for(bot.communicate(), 40)
    assert bot.returncode == 1
    assert b"discord.errors.LoginFailure: Improper token has been passed." in said
    assert b"AttributeError" not in said


async def test_without_a_token_it_says_what_to_set(folder: Path) -> None:
    async with StandIn() as stand_in:
        bot = await start(stand_in, folder, "")
        said, _ = await asyncio.wait_for(bot.communicate(), 40)
    assert bot.returncode == 1
    assert said == b"set DISCORD_TOKEN to the token of your bot\n"
