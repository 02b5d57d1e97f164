"""The encode bot is killed, or closed, and started again: what users see of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from examples.encode_bot.pages import PAGE
from pandora_db import EventKind, Job, JobStatus, Stage
from tests.discord.encode_bot.bot_process import Scene, answers, buttons, says
from tests.discord.encode_bot.clips import RATE, SECONDS, count_frames
from tests.discord.stand_in import CHANNEL_ID, USER_ID, Used
from tests.discord.stand_in.world import OWNER_ID
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path


PARTS = ("0", "1", "2", "3", "sound", "join")  # "0" is the first second of the clip
OTHER_USER = 777
MANAGE_MESSAGES = 1 << 13


def identity(path: Path) -> tuple[int, int, int]:
    """What changes when somebody writes the file again."""
    facts = path.stat()
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


async def test_a_bot_that_is_killed_in_an_encode_goes_on_in_the_same_message(scene: Scene) -> None:
    discord, ffmpeg, item = scene.discord, scene.ffmpeg, scene.site.items["talk.mkv"]
    ffmpeg.hold("2")
    async with scene.bot() as bot:
        used = await discord.slash("encode", {"link": scene.link, "preset": "STANDARD"})
        assert used.seconds is not None
        assert used.seconds < 3
        message = used.message()
        await says(message, "part 3 of 5")
        assert "▰" in message.content
        assert "talk.mkv" in message.content
        (job,) = await scene.db.get_active_jobs()
        assert (job.message_id, job.author_id) == (message.message_id, USER_ID)
        assert buttons(message) == [f"encode-bot:cancel:{job.job_id}"]
        bot.kill()
        parts = bot.data / "jobs" / str(job.job_id) / "encode"
        kept = {path.name: identity(path) for path in parts.glob("part*.mp4")}
        assert sorted(kept) == ["part00000.mp4", "part00001.mp4"]
        kept["../source"] = identity(parts.parent / "source")

        ffmpeg.release()
        await bot.start()
        await says(message, "is done")
        # The folder of an ended job stays for some minutes.
        assert {name: identity(parts / name) for name in kept} == kept

    assert ffmpeg.begun == Counter({**dict.fromkeys(PARTS, 1), "2": 2})
    assert (len(item.ranges), item.sent) == (1, len(item.body))
    progress, result = discord.messages()
    assert progress is message
    assert buttons(message) == []
    assert not discord.too_many
    assert f"<@{USER_ID}>" in result.content
    ((name, body),) = result.files
    assert name == "talk.mp4"
    (scene.folder / name).write_bytes(body)
    assert count_frames(scene.folder / name) == SECONDS * RATE
    encode = [
        (event.kind, event.attempt)
        for event in await scene.db.history(job.job_id)
        if Stage.ENCODING in (event.stage, event.previous)
    ]
    assert encode == [
        (EventKind.CLAIMED, 1), (EventKind.RECOVERED, 1), (EventKind.CLAIMED, 2),
        (EventKind.FINISHED, 2),
    ]  # fmt: skip


async def test_a_result_is_posted_once(scene: Scene) -> None:
    discord = scene.discord
    post = f"POST /channels/{CHANNEL_ID}/messages"
    discord.mute(post)  # it is posted, and the bot never hears that it was
    async with scene.bot() as bot:
        message = await scene.encode()
        await wait_until(lambda: len(discord.messages()) == 2, timeout=40)
        bot.kill()
        discord.release()
        await bot.start()
        await says(message, "is done")
    _, result = discord.messages()
    assert [name for name, _ in result.files] == ["talk.mp4"]
    posts = [call for call in discord.calls if f"{call.method} {call.path}" == post]
    assert [call.status for call in posts] == [200, 200]  # the same message, twice


async def test_the_cancel_button_works_after_a_restart(scene: Scene) -> None:
    discord = scene.discord
    discord.world.permissions = {OWNER_ID: MANAGE_MESSAGES}
    scene.ffmpeg.hold("0")
    async with scene.bot() as bot:
        first = await scene.encode()
        await says(first, "encoding, part 1")
        second = await scene.encode()
        await says(second, "you are next")
        bot.kill()
        await bot.start()
        # Whichever job the new process takes up: the other may still have a lease of the old one.
        await wait_until(lambda: scene.ffmpeg.begun["0"] == 2)
        for message, user_id, words in (
            (first, OTHER_USER, ["somebody else's"]),
            (first, USER_ID, ["stops in a moment", "is cancelled"]),
            (second, OWNER_ID, ["stops in a moment", "is cancelled"]),
        ):
            (button,) = buttons(message)
            used = await discord.click(message, button, user_id=user_id)
            await answers(used, *words)
            assert used.message().ephemeral
        await says(first, "was cancelled")
        await says(second, "was cancelled")
        assert buttons(first) == buttons(second) == []
    assert [job.status for job in await scene.db.get_jobs()] == [JobStatus.CANCELLED] * 2


async def test_pages_are_turned_after_a_restart(scene: Scene) -> None:
    db, discord = scene.db, scene.discord
    ids = await db.insert_jobs(
        Job(author="mika", author_id=USER_ID, link=f"https://e.example/{n}.mkv", ready=Stage.FAILED)
        for n in range(2 * PAGE + 1)
    )
    await db.insert_job(Job(author="noor", author_id=OWNER_ID, ready=Stage.FAILED))

    def shown(used: Used) -> list[int]:
        return [int(line.split("**")[1]) for line in used.text().splitlines()]

    async with scene.bot() as bot:
        used = await discord.slash("myjobs")
        await wait_until(lambda: used.text() and buttons(used.message()))
        assert shown(used) == ids[: -PAGE - 1 : -1]
        assert used.message().ephemeral
        (older,) = buttons(used.message())
        bot.kill()
        await bot.start()
        await discord.click(used.message(), older)
        await wait_until(lambda: shown(used) == ids[PAGE:0:-1])
        newest, older = buttons(used.message())
        await discord.click(used.message(), older)
        await wait_until(lambda: shown(used) == ids[:1])
        assert buttons(used.message()) == [newest]
        await discord.click(used.message(), newest)
        await wait_until(lambda: shown(used) == ids[: -PAGE - 1 : -1])


async def test_sigterm_gives_the_jobs_back_and_says_so(scene: Scene) -> None:
    db, discord, ffmpeg = scene.db, scene.discord, scene.ffmpeg
    ffmpeg.hold("1")
    async with scene.bot() as bot:
        message = await scene.encode()
        await says(message, "encoding, part 2")
        assert await bot.end() == 0
        assert "is queued" in message.content
        assert not discord.connected
        (job,) = await db.get_active_jobs()
        assert (job.ready, job.attempt) == (Stage.DOWNLOADED, 0)
        assert "Traceback" not in bot.log
        # The program that waited was ended with the bot: nobody makes that part now.
        ffmpeg.release()
        await bot.start()
        await says(message, "is done")
        assert await bot.end() == 0
    assert ffmpeg.begun == Counter({**dict.fromkeys(PARTS, 1), "1": 2})
    kinds = [event.kind for event in await db.history(job.job_id)]
    assert kinds.count(EventKind.RELEASED) == 1
    assert EventKind.RECOVERED not in kinds


@pytest.mark.slow
async def test_kills_at_any_moment_cost_no_job_and_double_nothing(scene: Scene) -> None:
    chance = random.Random(11)
    async with scene.bot(LEASE="1") as bot:
        messages = [await scene.encode() for _ in range(2)]
        kills = 0
        for message in messages:
            await says(message, "**Job ")
        while kills < 5:
            await asyncio.sleep(chance.uniform(0.0, 2.5))
            bot.kill()
            kills += 1
            await bot.start()
        for message in messages:
            await wait_until(lambda message=message: "is done" in message.content, timeout=40)
    assert not any(buttons(message) for message in messages)
    results = [message for message in scene.discord.messages() if message.files]
    assert len(results) == len(messages) == len(scene.discord.messages()) - len(results)
    # At most the part, or the download, that was under way was begun again.
    assert sum(scene.ffmpeg.begun.values()) <= 2 * len(PARTS) + kills
    for result in results:
        ((name, body),) = result.files
        (scene.folder / name).write_bytes(body)
        assert count_frames(scene.folder / name) == SECONDS * RATE
