"""What happens to a message that can no longer be edited, on both dialects."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import discord
import pytest

from pandora_db import Job, JobDb, NotFound, PandoraDbError
from pandora_db.discord import MessageRef, ProgressUpdater
from tests.discord.conftest import QUICK
from tests.discord.stand_in import CHANNEL_ID, TOKEN, USER_ID, StandIn
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pandora_db import JobRow

    StoredJob = Callable[[], Awaitable[JobRow]]


@pytest.fixture
def stored_job(db: JobDb, client: discord.Client) -> StoredJob:
    """Inserts a job with a message of the bot."""

    async def make() -> JobRow:
        message = await client.get_partial_messageable(CHANNEL_ID).send("queued")
        ref = MessageRef.of(message, user=USER_ID)
        return await read(db, await db.insert_job(Job(author="mika", **ref.job_fields())))

    return make


async def read(db: JobDb, job_id: int) -> JobRow:
    job = await db.get_job(job_id)
    assert job is not None
    return job


def shown(stand_in: StandIn) -> list[str]:
    return [message.content for message in stand_in.messages()]


async def test_a_deleted_message_is_replaced_and_stored(
    db: JobDb, stand_in: StandIn, client: discord.Client, stored_job: StoredJob
) -> None:
    job = await stored_job()
    stand_in.delete(job.message_id)
    async with ProgressUpdater(client, db, **QUICK) as updater:
        updater.show(job, "half")
        assert await updater.settle(job.job_id)
        (message,) = stand_in.messages()
        assert (await read(db, job.job_id)).message_id == message.message_id
        # By the row that still names the old one, too.
        assert await updater.finish(job, "done")
    assert shown(stand_in) == ["done"]


async def test_it_goes_on_after_a_restart(
    db: JobDb, stand_in: StandIn, client: discord.Client, stored_job: StoredJob
) -> None:
    job = await stored_job()
    stand_in.delete(job.message_id)
    async with ProgressUpdater(client, db, **QUICK) as before:
        assert await before.finish(job, "half")
    async with ProgressUpdater(client, db, **QUICK) as updater:
        assert await updater.finish(await read(db, job.job_id), "done")
    assert shown(stand_in) == ["done"]


async def test_edits_of_an_old_message_run_out(
    db: JobDb, stand_in: StandIn, client: discord.Client, stored_job: StoredJob
) -> None:
    stand_in.rules.old_edits = (0, 4000.0)
    stand_in.advance(-3700)
    job = await stored_job()
    stand_in.advance(3700)
    begun = time.monotonic()
    async with ProgressUpdater(client, db, **QUICK) as updater:
        # discord.py would wait out the 4,000 seconds.
        assert await updater.finish(job, "done", timeout=30)
    assert time.monotonic() - begun < 15
    assert shown(stand_in) == ["queued", "done"]
    assert [call.code for call in stand_in.too_many] == [30046]
    newest = stand_in.messages()[-1].message_id
    assert (await read(db, job.job_id)).message_id == newest


async def test_an_old_message_is_edited_rarely_until_its_end(
    db: JobDb, stand_in: StandIn, client: discord.Client, stored_job: StoredJob
) -> None:
    stand_in.advance(-3700)
    job = await stored_job()
    stand_in.advance(3700)
    async with ProgressUpdater(client, db, **QUICK) as updater:
        updater.show(job, "1 %")
        assert await updater.settle(job.job_id)
        updater.show(job, "2 %")
        assert not await updater.settle(job.job_id, timeout=0.5)
        assert await updater.finish(job, "done")
    assert [text for _, text in stand_in.messages()[0].versions] == ["queued", "1 %", "done"]
    assert stand_in.too_many == []


async def test_the_token_of_the_interaction_is_not_needed(
    db: JobDb, stand_in: StandIn, stored_job: StoredJob
) -> None:
    async with discord.Client(intents=discord.Intents.default()) as bot:
        tree = discord.app_commands.CommandTree(bot)
        kept: list[MessageRef] = []

        @tree.command()
        async def encode(interaction: discord.Interaction) -> None:
            """Encode."""
            await interaction.response.send_message("queued")
            kept.append(MessageRef.of(await interaction.original_response()))

        await bot.login(TOKEN)
        await tree.sync()
        running = asyncio.create_task(bot.connect())
        await stand_in.wait_connected()
        used = await stand_in.slash("encode")
        await wait_until(lambda: kept)
        ref = kept[0]
        assert ref.user_id == USER_ID
        job = await read(db, await db.insert_job(Job(author="mika", **ref.job_fields())))
        assert job.author_id == USER_ID
        stand_in.advance(16 * 60)
        async with ProgressUpdater(bot, db, **QUICK) as updater:
            assert await updater.finish(job, "done")
        assert used.text() == "done"
        assert used.token not in str(job)
    await running


async def test_an_expired_token_that_a_library_reports_means_a_new_message(
    db: JobDb, stand_in: StandIn, client: discord.Client, stored_job: StoredJob
) -> None:
    job = await stored_job()
    stand_in.fail("PATCH /channels/", 401, 50027)
    async with ProgressUpdater(client, db, **QUICK) as updater:
        assert await updater.finish(job, "done")
    assert shown(stand_in) == ["queued", "done"]


async def test_killed_before_the_new_message_was_stored(
    stand_in: StandIn, db: JobDb, client: discord.Client, stored_job: StoredJob
) -> None:
    job = await stored_job()
    stand_in.delete(job.message_id)
    async with ProgressUpdater(client, None, **QUICK) as lost:  # it stores nothing
        assert await lost.finish(job, "half")
    async with ProgressUpdater(client, db, **QUICK) as updater:
        assert await updater.finish(await read(db, job.job_id), "done")
    assert shown(stand_in) == ["done"]
    (message,) = stand_in.messages()
    assert (await read(db, job.job_id)).message_id == message.message_id


async def test_a_channel_that_is_gone_ends_it(
    db: JobDb, stand_in: StandIn, client: discord.Client, stored_job: StoredJob,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    job = await stored_job()
    del stand_in.world.channels[CHANNEL_ID]
    async with ProgressUpdater(client, db, **QUICK) as updater:
        assert not await updater.finish(job, "done")
        calls = len(stand_in.calls)
        assert not await updater.finish(job, "done, again")
        assert len(stand_in.calls) == calls
    assert f"job {job.job_id}: cannot be shown" in caplog.text
    assert (await read(db, job.job_id)).message_id == job.message_id


async def test_the_bot_may_not_write_there(
    db: JobDb, stand_in: StandIn, client: discord.Client, stored_job: StoredJob
) -> None:
    job = await stored_job()
    stand_in.delete(job.message_id)
    stand_in.fail("POST /channels/", 403, 50013)
    async with ProgressUpdater(client, db, **QUICK) as updater:
        assert not await updater.finish(job, "done")
    assert shown(stand_in) == []


async def test_the_job_is_deleted_meanwhile(
    db: JobDb, stand_in: StandIn, client: discord.Client, stored_job: StoredJob
) -> None:
    job = await stored_job()
    stand_in.delete(job.message_id)
    await db.delete_job(job.job_id)
    async with ProgressUpdater(client, db, **QUICK) as updater:
        assert await updater.finish(job, "done")
    with pytest.raises(NotFound):
        await db.update_job(job.job_id, message_id=1)


async def test_a_job_with_a_channel_alone_gets_a_message(
    db: JobDb, stand_in: StandIn, client: discord.Client
) -> None:
    job = await read(db, await db.insert_job(Job(author="mika", channel_id=CHANNEL_ID)))
    async with ProgressUpdater(client, db, **QUICK) as updater:
        updater.show(job, "queued")
        assert await updater.settle(job.job_id)
        assert await updater.finish(job, "done")
    assert shown(stand_in) == ["done"]


async def test_showing_inside_a_transaction(
    db: JobDb, stand_in: StandIn, client: discord.Client, stored_job: StoredJob,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    job = await stored_job()
    stand_in.delete(job.message_id)
    async with ProgressUpdater(client, db, **QUICK) as updater:
        async with db.transaction() as tx:
            await tx.update_job(job.job_id, current_step="moving")
            updater.show(job, "half")
            await wait_until(stand_in.messages)  # now it is to be stored
            await asyncio.sleep(0.05)
        assert await updater.settle(job.job_id)
        (message,) = stand_in.messages()
        assert (await read(db, job.job_id)).message_id == message.message_id
    assert "trying again" not in caplog.text


async def test_the_database_is_away_when_the_new_message_is_to_be_stored(
    stand_in: StandIn, db: JobDb, client: discord.Client, stored_job: StoredJob
) -> None:
    job = await stored_job()
    stand_in.delete(job.message_id)
    away = [PandoraDbError("away"), PandoraDbError("still away")]

    class Shaky:
        async def update_job(self, job_id: int, **changes: Any) -> None:
            if away:
                raise away.pop()
            await db.update_job(job_id, **changes)

    async with ProgressUpdater(client, Shaky(), **QUICK) as updater:  # type: ignore[arg-type]
        assert await updater.finish(job, "done")
    (message,) = stand_in.messages()
    assert (await read(db, job.job_id)).message_id == message.message_id
    assert stand_in.edits() == []  # it was shown, and need not be again
