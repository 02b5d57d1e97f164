"""The encode bot as users see it: the real discord.py in a process of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pandora_db import Job, Preset, Stage
from tests.discord.encode_bot.bot_process import Scene, answers, buttons, says
from tests.discord.encode_bot.clips import RATE, SECONDS, count_frames
from tests.discord.stand_in.world import OWNER_ID

if TYPE_CHECKING:
    from tests.discord.stand_in.world import Message

OTHER_USER = 777
WRONG_TOKEN = "MTAw.not.this"  # noqa: S105 - nor any other


async def test_the_queue_has_limits_and_says_who_is_next(scene: Scene) -> None:
    discord = scene.discord
    scene.ffmpeg.hold("0")
    async with scene.bot(QUEUE="4", PER_USER="3"):
        mine: list[Message] = []
        for words in ("encoding, part 1", "you are next", "you are second"):
            mine.append(await scene.encode())
            await says(mine[-1], words)
        await says(await scene.encode(), "Sorry, you have 3 jobs in the queue")
        theirs = await scene.encode(user_id=OWNER_ID)
        await says(theirs, "you are third")
        await says(await scene.encode(user_id=OTHER_USER), "Sorry, the queue is full: 4 jobs")
        queue = await discord.slash("queue", user_id=OTHER_USER)
        await answers(queue, "4 of 4 places are taken")
        assert queue.text().count("talk.mkv") == 4
        assert await scene.db.get_queue_length() == 4
        # One that waits goes at once, and everybody behind it moves up.
        (button,) = buttons(mine[1])
        await discord.click(mine[1], button)
        await says(mine[1], "was cancelled")
        await says(mine[2], "you are next")
        await says(theirs, "you are second")
        assert not discord.too_many
    options = next(each for each in discord.world.commands if each["name"] == "encode")["options"]
    choices = next(option for option in options if option["name"] == "preset")["choices"]
    assert [choice["value"] for choice in choices] == [preset.name for preset in Preset]


async def test_a_busy_database_costs_no_acknowledgement(scene: Scene) -> None:
    async with scene.bot():
        async with scene.db.transaction() as tx:
            # The queue is locked for whoever wants to insert within a limit.
            await tx.insert_job(Job(author="noor", ready=Stage.FAILED), max_active=100)
            message = await scene.encode()
            jobs = await scene.discord.slash("myjobs")
            await answers(jobs, "there are no jobs of yours")
            assert "talk.mkv …" in message.content
        await says(message, "is done")


async def test_a_dead_link_a_file_and_what_became_of_them(scene: Scene) -> None:
    discord = scene.discord
    async with scene.bot(UPLOAD_MB="0") as bot:
        dead = await scene.encode(link=f"{scene.site.base}/gone.mkv")
        await says(dead, "failed: 404 Not Found from 127.0.0.1")
        assert buttons(dead) == []
        await says(await scene.encode(link="gone.mkv"), "Sorry, this is no link")
        file = ("my @everyone *clip*.mkv", scene.clip.read_bytes())
        done = await scene.encode(file=file, preset="CONCAT_SOME_SUBS")
        await says(done, "is done")
        assert "too large to be posted" in done.content
        assert "@everyone" not in done.content
        assert "\\*clip\\*" in done.content
        told = await discord.slash("job", {"number": 2})
        await answers(told, "claimed, encoding, attempt 1")
        assert "finished, uploaded" in told.text()
        await answers(
            await discord.slash("cancel", {"number": 2}), "Sorry, job 2 has ended already."
        )
        await answers(await discord.slash("job", {"number": 99}), "Sorry, there is no job 99 here.")
        result = bot.data / "results" / "2.mp4"
        (card,) = bot.data.glob("*/intro.mp4")
        assert count_frames(result) == count_frames(card) + SECONDS * RATE
    assert sum(not message.ephemeral for message in discord.messages()) == 3
    job = await scene.db.get_job(2)
    assert job is not None
    assert job.output_file == str(result)


async def test_what_ends_it_at_once_is_told(scene: Scene) -> None:
    bot = scene.bot()
    scene.discord.fail("GET /users/@me", 403)
    assert await bot.run_to_its_end() == 1
    assert bot.log.splitlines()[-1] == "error: 403 Forbidden (error code: 0): said the test"


async def test_what_is_wrong_here_is_told_before_discord_is_asked(scene: Scene) -> None:
    bot = scene.bot()
    scene.discord.fail("GET /users/@me", 403)
    bot.environ["PANDORA_DB_URL"] = "nosuch://host/database"
    assert await bot.run_to_its_end() == 2
    assert bot.log.startswith("error: PANDORA_DB_URL: the scheme of that URL is not known")
    assert "403" not in bot.log

    bot = scene.bot(DATA=str(scene.clip / "data"))  # below a file
    assert await bot.run_to_its_end() == 2
    assert bot.log.splitlines()[-1].startswith("error: ENCODE_BOT_DATA cannot be made: ")
    assert "403" not in bot.log


async def test_a_wrong_token_is_told_and_not_shown(scene: Scene) -> None:
    bot = scene.bot()
    bot.environ["DISCORD_TOKEN"] = WRONG_TOKEN
    code = await bot.run_to_its_end()
    assert code == 2
    assert "error: Improper token has been passed" in bot.log
    assert "voice will NOT be supported" not in bot.log
    assert WRONG_TOKEN not in bot.log
