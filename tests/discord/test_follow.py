"""JobMessages: messages follow the log, whoever writes it, over restarts; on both dialects."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from pandora_db import InvalidInput, Job, JobDb, Stage
from pandora_db.discord import JobMessages, MessageRef, ProgressUpdater, render_job
from pandora_db.runtime import JobContext, Pipeline, Progress
from tests.discord.conftest import QUICK
from tests.discord.stand_in import CHANNEL_ID, USER_ID, StandIn
from tests.support.raw import Raw
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import discord

    from pandora_db import JobRow


class Bot:
    """What a bot has, without its commands."""

    def __init__(self, db: JobDb, stand_in: StandIn, client: discord.Client) -> None:
        self.db = db
        self.stand_in = stand_in
        self.client = client

    async def ask(self, author: str = "mika") -> int:
        """Somebody asks for a job."""
        message = await self.client.get_partial_messageable(CHANNEL_ID).send("…")
        ref = MessageRef.of(message, user=USER_ID)
        return await self.db.insert_job(Job(author=author, **ref.job_fields()))

    @asynccontextmanager
    async def running(self, **settings: Any) -> AsyncIterator[JobMessages]:
        async with ProgressUpdater(self.client, self.db, **QUICK) as updater:
            settings = {"render": self.render, "every": 0.1} | settings
            async with JobMessages(self.db, updater, **settings) as messages:
                yield messages

    async def render(self, job: JobRow) -> str:
        return render_job(job, await self.db.queue_position(job.job_id))

    def texts(self) -> list[str]:
        return [message.content for message in self.stand_in.messages()]

    async def shows(self, *texts: str) -> None:
        await wait_until(lambda: self.texts() == list(texts))


@pytest.fixture
def bot(db: JobDb, stand_in: StandIn, client: discord.Client) -> Bot:
    return Bot(db, stand_in, client)


async def test_a_message_follows_its_job_to_the_end(bot: Bot) -> None:
    async with bot.running():
        job_id = await bot.ask()
        await bot.shows(f"**Job {job_id}** is queued: you are next")
        await bot.db.update_stage(job_id, Stage.ENCODING)
        await bot.db.update_job(job_id, progress=0.5, current_step="encoding")
        await bot.shows(f"**Job {job_id}**: encoding\n" + "▰" * 10 + "▱" * 10 + " 50 %")
        # What another process writes is no event of this one, and progress is no event at all.
        await bot.db.update_job(job_id, progress=0.75)
        await bot.shows(f"**Job {job_id}**: encoding\n" + "▰" * 15 + "▱" * 5 + " 75 %")
        await bot.db.update_stage(job_id, Stage.UPLOADED)
        await bot.db.archive_job(job_id)
        await bot.shows(f"**Job {job_id}** is done")
    assert bot.stand_in.too_many == []


async def test_another_process_works_on_it(bot: Bot, db_url: str) -> None:
    async with bot.running(), JobDb.open(db_url) as elsewhere:
        job_id = await bot.ask()
        await elsewhere.update_stage(job_id, Stage.ENCODING)
        await elsewhere.update_job(job_id, progress=0.25, current_step="encoding")
        await bot.shows(f"**Job {job_id}**: encoding\n" + "▰" * 5 + "▱" * 15 + " 25 %")
        await elsewhere.update_stage(job_id, Stage.FAILED)
        await bot.shows(f"**Job {job_id}** failed")


async def test_those_who_wait_see_the_queue_move(bot: Bot) -> None:
    async with bot.running():
        first, second, third = [await bot.ask() for _ in range(3)]
        await bot.shows(
            f"**Job {first}** is queued: you are next",
            f"**Job {second}** is queued: you are second",
            f"**Job {third}** is queued: you are third",
        )
        await bot.db.cancel_job(first)
        await bot.shows(
            f"**Job {first}** was cancelled",
            f"**Job {second}** is queued: you are next",
            f"**Job {third}** is queued: you are second",
        )


async def test_what_ended_while_the_bot_was_away_is_shown_at_its_start(bot: Bot) -> None:
    async with bot.running():
        ended, running, archived = [await bot.ask() for _ in range(3)]
        await bot.shows(*(
            f"**Job {job_id}** is queued: you are {place}"
            for job_id, place in ((ended, "next"), (running, "second"), (archived, "third"))
        ))  # fmt: skip
    await bot.db.update_stage(ended, Stage.FAILED)
    await bot.db.update_stage(archived, Stage.UPLOADED)
    await bot.db.archive_job(archived)
    await bot.db.update_stage(running, Stage.UPLOADING)
    async with bot.running():
        await bot.shows(
            f"**Job {ended}** failed", f"**Job {running}**", f"**Job {archived}** is done"
        )
    edits = len(bot.stand_in.edits())
    async with bot.running(every=60.0):
        fetched = [call for call in bot.stand_in.calls if call.method == "GET"]
        await wait_until(
            lambda: (
                len([call for call in bot.stand_in.calls if call.method == "GET"])
                >= len(fetched) + 2
            )
        )
    # What is shown already is not edited; the active job cannot know.
    ended_ones = {each.message_id for each in await bot.db.get_jobs_by_ids([ended, archived])}
    assert not [call for call in bot.stand_in.edits()[edits:] if call.message_id in ended_ones]


async def test_an_end_long_ago_is_left_alone(bot: Bot) -> None:
    job_id = await bot.ask()
    await bot.db.update_stage(job_id, Stage.UPLOADED)
    await bot.db.archive_job(job_id)
    later = await bot.ask()
    async with bot.running(ended_within=timedelta(0)):
        await bot.shows("…", f"**Job {later}** is queued: you are next")
    assert bot.texts()[0] == "…"


async def test_a_message_that_was_deleted_after_the_end_does_not_come_back(bot: Bot) -> None:
    tidied, later = await bot.ask(), await bot.ask()
    for job_id in (tidied, later):
        await bot.db.update_stage(job_id, Stage.UPLOADED)
        await bot.db.archive_job(job_id)
    bot.stand_in.delete(bot.stand_in.messages()[0])
    async with bot.running():
        await bot.shows(f"**Job {later}** is done")
        looked = [call.status for call in bot.stand_in.calls if call.method == "GET"]
        assert sorted(looked[-2:]) == [200, 404]
    assert bot.texts() == [f"**Job {later}** is done"]


async def test_discord_fails_while_it_catches_up(bot: Bot) -> None:
    job_id = await bot.ask()
    await bot.db.update_stage(job_id, Stage.UPLOADED)
    await bot.db.archive_job(job_id)
    bot.stand_in.fail("GET /channels/", 503)
    async with bot.running():
        await bot.shows(f"**Job {job_id}** is done")


async def test_a_retried_job_begins_anew(bot: Bot) -> None:
    async with bot.running():
        job_id = await bot.ask()
        await bot.db.update_stage(job_id, Stage.FAILED)
        await bot.shows(f"**Job {job_id}** failed")
        await bot.db.retry_job(job_id)
        await bot.shows(f"**Job {job_id}** is queued: you are next")


async def test_a_deleted_job_keeps_its_message(bot: Bot) -> None:
    async with bot.running():
        job_id = await bot.ask()
        await bot.shows(f"**Job {job_id}** is queued: you are next")
        await bot.db.delete_job(job_id)
        other = await bot.ask()
        await bot.shows(
            f"**Job {job_id}** is queued: you are next", f"**Job {other}** is queued: you are next"
        )


async def test_a_render_that_fails_spoils_one_message(
    bot: Bot, caplog: pytest.LogCaptureFixture
) -> None:
    def render(job: JobRow) -> Any:
        if job.author == "noor":
            raise KeyError(job.author)
        made = {"mika": {"content": "mika"}, "kofi": {"file": b""}, "tomasz": 7, "ines": None}
        return made[job.author]

    asked = ("noor", "kofi", "tomasz", "ines", "mika")
    ended = [await bot.ask(author) for author in asked]
    for job_id in ended:
        await bot.db.update_stage(job_id, Stage.UPLOADED)
    async with bot.running(render=render):
        for author in asked:
            await bot.ask(author)
        await bot.shows(*("…", "…", "…", "…", "mika") * 2)
    for words in ("KeyError: 'noor'", "show does not take file", "content is 7"):
        assert caplog.text.count(words) >= 2


async def test_close_shows_what_happened_until_then(bot: Bot) -> None:
    async with bot.running(every=60.0):
        job_id = await bot.ask()
        await bot.shows(f"**Job {job_id}** is queued: you are next")
        await bot.db.update_stage(job_id, Stage.UPLOADED)
    await bot.shows(f"**Job {job_id}** is done")


async def test_a_pipeline_that_tells_sixty_times_a_second(bot: Bot) -> None:
    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.UPLOADED, concurrency=5,
                    progress_every=0.1)  # fmt: skip
    async def work(ctx: JobContext) -> None:
        for step in range(1, 121):
            ctx.progress(Progress.count(step, 120))
            await asyncio.sleep(1 / 60)

    jobs = [await bot.ask() for _ in range(5)]
    async with bot.running(), pipeline.running(bot.db):
        await bot.shows(*(f"**Job {job_id}** is done" for job_id in jobs))
    assert bot.stand_in.too_many == []
    for message in bot.stand_in.messages():
        bars = [text for _, text in message.versions if "%" in text]
        assert len(bars) >= 2


async def test_it_is_started_once(bot: Bot) -> None:
    async with bot.running() as messages:
        with pytest.raises(InvalidInput, match="twice"):
            await messages.start()
    await messages.close()
    async with ProgressUpdater(bot.client) as updater:
        with pytest.raises(InvalidInput, match="render"):
            JobMessages(bot.db, updater, "text")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="ended_within"):
            JobMessages(bot.db, updater, render_job, ended_within=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("how", ["a row of another program", "a render that is cancelled"])
async def test_one_job_stops_no_other(bot: Bot, raw: Raw, how: str) -> None:
    strange, plain = await bot.ask(), await bot.ask()

    async def render(job: JobRow) -> str:
        if job.job_id == strange and how == "a render that is cancelled":
            gone: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            gone.cancel()
            return await gone
        return f"{job.job_id} {Stage(job.ready).name}"

    if how == "a row of another program":
        raw("UPDATE jobs SET guild_id = -5, author_id = -1 WHERE job_id = %s", strange)
    async with bot.running(render=render):
        for stage in (Stage.DOWNLOADING, Stage.ENCODING):
            for job_id in (strange, plain):
                await bot.db.update_stage(job_id, stage)
            await wait_until(lambda stage=stage: bot.texts()[1] == f"{plain} {stage.name}")
