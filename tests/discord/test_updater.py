"""ProgressUpdater with the real discord.py on the stand-in: gathering, limits, last states."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING

import discord
import pytest

from pandora_db import InvalidInput
from pandora_db.discord import ProgressUpdater
from tests.discord.conftest import QUICK
from tests.discord.stand_in import CHANNEL_ID, TOKEN, Rules, StandIn
from tests.discord.stand_in.library import pointed_at
from tests.support.messages import row
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pandora_db import JobRow

    NewJob = Callable[[int], Awaitable[JobRow]]


def content(stand_in: StandIn, job: JobRow) -> str:
    return stand_in.world.messages[job.message_id].content


@pytest.mark.slow
async def test_five_jobs_at_sixty_updates_a_second_meet_no_limit() -> None:
    rules = Rules()
    assert rules.edits == (5, 5.0)
    async with StandIn(rules) as stand_in:
        with pointed_at(stand_in.url):
            async with discord.Client(intents=discord.Intents.none()) as client:
                await client.login(TOKEN)
                channel = client.get_partial_messageable(CHANNEL_ID)
                jobs = [
                    row(n, channel_id=CHANNEL_ID, message_id=(await channel.send(f"{n}")).id)
                    for n in range(1, 6)
                ]
                async with ProgressUpdater(client) as updater:

                    async def work(job: JobRow) -> None:
                        begun = time.monotonic()
                        for step in range(720):
                            updater.show(job, f"job {job.job_id}: {step} of 720")
                            await asyncio.sleep(max(begun + (step + 1) / 60 - time.monotonic(), 0))
                        updater.show(job, f"job {job.job_id} is done", last=True)

                    await asyncio.gather(*map(work, jobs))
                    settled = [await updater.settle(job.job_id, timeout=30) for job in jobs]
        assert settled == [True] * 5
        assert stand_in.too_many == []
        assert [content(stand_in, job) for job in jobs] == [f"job {n} is done" for n in range(1, 6)]
        edits = stand_in.edits()
        # Never more than five within any five seconds, and not much less.
        gaps = [later.at - one.at for one, later in zip(edits, edits[5:], strict=False)]
        assert min(gaps) > 4.99
        assert len(edits) >= 15
        # No job waits for another that tells more.
        shares = Counter(edit.message_id for edit in edits)
        assert max(shares.values()) - min(shares.values()) <= 1


async def test_the_newest_state_wins_and_the_others_cost_nothing(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    job = await new_job(1)
    async with ProgressUpdater(client, **QUICK) as updater:
        stand_in.hold()
        for step in range(10_000):
            updater.show(job, f"step {step}")
            if step == 5_000:
                await asyncio.sleep(0.05)  # the first edit is on its way
        stand_in.release()
        assert await updater.settle(1)
    assert [edit.body["content"] for edit in stand_in.edits()] == ["step 5000", "step 9999"]


async def test_the_same_state_again_is_not_sent(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    job = await new_job(1)
    async with ProgressUpdater(client, **QUICK) as updater:
        for _ in range(3):
            updater.show(job, "half")
            assert await updater.settle(1)
        assert await updater.finish(job, "half")
        updater.show(job, "late progress")
    assert [edit.body["content"] for edit in stand_in.edits()] == ["half"]


async def test_nothing_takes_the_place_of_a_last_state(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    job = await new_job(1)
    async with ProgressUpdater(client, **QUICK) as updater:
        updater.show(job, "done", last=True)
        updater.show(job, "99 %")
        assert await updater.settle(1)
        updater.show(job, "98 %")
        assert await updater.settle(1)
        assert content(stand_in, job) == "done"
        updater.forget(1)
        updater.show(job, "once more: 1 %")
        assert await updater.settle(1)
    assert content(stand_in, job) == "once more: 1 %"


async def test_a_job_that_begins_anew_while_its_message_is_edited(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    job = await new_job(1)
    async with ProgressUpdater(client, **QUICK) as updater:
        stand_in.hold()
        updater.show(job, "failed", last=True)
        await asyncio.sleep(0.05)  # it is on its way
        updater.forget(1)
        updater.show(job, "queued again")
        stand_in.release()
        assert await updater.settle(1)
    assert content(stand_in, job) == "queued again"


async def test_the_message_of_a_job_moves_to_another_channel(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    other = min(set(stand_in.world.channels) - {CHANNEL_ID})
    job = await new_job(1)
    there = await client.get_partial_messageable(other).send("moved")
    moved = job._replace(channel_id=other, message_id=there.id)
    async with ProgressUpdater(client, **QUICK) as updater:
        stand_in.hold()
        stand_in.fail("PATCH /channels/", 503)
        updater.show(job, "half")
        await asyncio.sleep(0.05)  # it is on its way
        updater.show(moved, "more than half")
        stand_in.release()
        assert await updater.settle(1)
        assert content(stand_in, moved) == "more than half"
        # By the row that names the old one, too.
        assert await updater.finish(job, "done")
    # The edit that failed is not tried again: it was of the old one.
    assert [content(stand_in, each) for each in (job, moved)] == ["job 1 is queued", "done"]


async def test_last_states_go_first(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    stand_in.rules.edits = (1, 0.2)
    jobs = [await new_job(n) for n in range(1, 9)]
    async with ProgressUpdater(client, edits=1, per=0.2, every=0.0) as updater:
        for job in jobs:
            updater.show(job, "progress")
        updater.show(jobs[7], "done", last=True)
        assert await updater.settle(8)
        assert [edit.message_id for edit in stand_in.edits()][-1] == jobs[7].message_id
        assert len(stand_in.edits()) <= 2


async def test_a_channel_is_shared_fairly(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    jobs = [await new_job(n) for n in range(1, 4)]
    async with ProgressUpdater(client, edits=1, per=0.05, every=0.0) as updater:
        step = 0
        while len(stand_in.edits()) < 9:
            step += 1
            for job in jobs:
                updater.show(job, f"step {step}")
            await asyncio.sleep(0.005)
        shares = Counter(edit.message_id for edit in stand_in.edits()[:9])
    assert list(shares.values()) == [3, 3, 3]


async def test_channels_do_not_wait_for_each_other(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    other = min(set(stand_in.world.channels) - {CHANNEL_ID})
    there = await client.get_partial_messageable(other).send("queued")
    here = await new_job(1)
    async with ProgressUpdater(client, edits=1, per=60.0, every=0.0) as updater:
        assert await updater.finish(here, "done")
        updater.show(row(2, channel_id=CHANNEL_ID, message_id=here.message_id), "waits a minute")
        elsewhere = row(3, channel_id=other, message_id=there.id)
        assert await updater.finish(elsewhere, "done too")
        assert await updater.close(timeout=0.1) == (2,)


async def test_a_server_that_fails_is_asked_again(
    stand_in: StandIn, client: discord.Client, new_job: NewJob, caplog: pytest.LogCaptureFixture
) -> None:
    job = await new_job(1)
    stand_in.fail("PATCH /channels/", 503, times=2)
    async with ProgressUpdater(client, **QUICK) as updater:
        assert await updater.finish(job, "done")
    assert content(stand_in, job) == "done"
    told = [record for record in caplog.records if record.name == "pandora_db.discord"]
    assert len(told) == 1


async def test_discord_is_away_and_comes_back(
    client: discord.Client, stand_in: StandIn, new_job: NewJob
) -> None:
    job = await new_job(1)
    port = int(stand_in.origin.rsplit(":", 1)[1])
    await stand_in.__aexit__(None, None, None)
    async with ProgressUpdater(client, **QUICK) as updater:
        assert not await updater.finish(job, "done", timeout=0.5)
        async with StandIn(port=port) as again:
            again.world.messages = stand_in.world.messages
            assert await updater.settle(1, timeout=10)
            assert content(again, job) == "done"


async def test_close_delivers_what_is_left(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    jobs = [await new_job(n) for n in range(1, 8)]
    updater = ProgressUpdater(client, edits=5, per=0.5, every=30.0)
    for job in jobs:
        updater.show(job, "first")
        updater.show(job, "second")
    await wait_until(lambda: len(stand_in.edits()) >= 2)
    for job in jobs:
        updater.show(job, "third")
    assert await updater.close() == ()
    assert {content(stand_in, job) for job in jobs} == {"third"}
    assert stand_in.too_many == []
    updater.show(jobs[0], "too late")
    assert await updater.close() == ()
    assert content(stand_in, jobs[0]) == "third"


async def test_close_keeps_to_its_deadline(
    stand_in: StandIn, client: discord.Client, new_job: NewJob, caplog: pytest.LogCaptureFixture
) -> None:
    job = await new_job(7)
    updater = ProgressUpdater(client, **QUICK)
    stand_in.hold()
    updater.show(job, "done", last=True)
    waiter = asyncio.create_task(updater.settle(7, timeout=60))
    await asyncio.sleep(0.05)
    begun = time.monotonic()
    assert await updater.close(timeout=0.3) == (7,)
    assert 0.3 <= time.monotonic() - begun < 1.0
    assert await waiter is False
    assert "7" in caplog.text
    assert not [task for task in asyncio.all_tasks() if "_work" in repr(task)]
    stand_in.release()


async def test_a_cancelled_close_leaves_no_task(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    updater = ProgressUpdater(client, **QUICK)
    stand_in.hold()
    updater.show(await new_job_held(stand_in, new_job), "done", last=True)
    await asyncio.sleep(0.05)
    closing = asyncio.create_task(updater.close(timeout=60))
    await asyncio.sleep(0.05)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    await wait_until(lambda: not [each for each in asyncio.all_tasks() if "_work" in repr(each)])
    stand_in.release()


async def new_job_held(stand_in: StandIn, new_job: NewJob) -> JobRow:
    stand_in.release()
    job = await new_job(1)
    stand_in.hold()
    return job


async def test_who_waits_may_be_cancelled(
    stand_in: StandIn, client: discord.Client, new_job: NewJob
) -> None:
    job = await new_job(1)
    async with ProgressUpdater(client, **QUICK) as updater:
        stand_in.hold()
        waiter = asyncio.create_task(updater.finish(job, "done", timeout=60))
        await asyncio.sleep(0.05)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        stand_in.release()
        assert await updater.settle(1)
    assert content(stand_in, job) == "done"


async def test_a_job_without_a_channel_is_left_alone(
    stand_in: StandIn, client: discord.Client
) -> None:
    async with ProgressUpdater(client, **QUICK) as updater:
        assert await updater.finish(row(1), "done")
    assert not [call for call in stand_in.calls if call.path.startswith("/channels")]


async def test_a_text_that_discord_refuses_does_not_stop_the_next(
    stand_in: StandIn, client: discord.Client, new_job: NewJob, caplog: pytest.LogCaptureFixture
) -> None:
    job = await new_job(1)
    stand_in.fail("PATCH /channels/", 400, 50035)
    async with ProgressUpdater(client, **QUICK) as updater:
        updater.show(job, "refused")
        assert not await updater.settle(1)
        updater.show(job, "x" * 3000)
        assert await updater.settle(1)
    assert content(stand_in, job) == "x" * 1999 + "…"
    assert [record.levelno for record in caplog.records if "cannot be shown" in record.message] == [
        logging.ERROR
    ]


async def test_embeds_and_views(stand_in: StandIn, client: discord.Client, new_job: NewJob) -> None:
    job = await new_job(1)
    view = discord.ui.View(timeout=None)
    view.add_item(discord.ui.Button(label="Cancel", custom_id="cancel:1"))
    async with ProgressUpdater(client, **QUICK) as updater:
        updater.show(job, embed=discord.Embed(title="half"), view=view)
        assert await updater.settle(1)
        message = stand_in.world.messages[job.message_id]
        assert message.embeds[0]["title"] == "half"
        assert [part["custom_id"] for part in message.buttons()] == ["cancel:1"]
        # Made anew, they look as before; and then they do not.
        again = discord.ui.View(timeout=None)
        again.add_item(discord.ui.Button(label="Cancel", custom_id="cancel:1"))
        updater.show(job, embed=discord.Embed(title="half"), view=again)
        assert await updater.settle(1)
        assert len(stand_in.edits()) == 1
        updater.show(job, embed=discord.Embed(title="more"), view=again)
        assert await updater.settle(1)
        assert len(stand_in.edits()) == 2
        assert await updater.finish(job, embed=None, view=None, content="done")
    assert (message.content, message.embeds, message.components) == ("done", [], [])


async def test_progress_makes_room_for_last_states(
    stand_in: StandIn, client: discord.Client, new_job: NewJob, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [await new_job(n) for n in range(1, 5)]
    stand_in.hold()
    async with ProgressUpdater(client, limit=2, **QUICK) as updater:
        updater.show(jobs[0], "done", last=True)
        updater.show(jobs[1], "half")
        updater.show(jobs[2], "done", last=True)
        assert "job 2 is not shown" in caplog.text
        stand_in.release()
        assert await updater.settle(1)
        assert await updater.settle(3)
        # What was shown is not waited for, and makes room without a word.
        caplog.clear()
        updater.show(jobs[3], "half")
        assert await updater.settle(4)
    assert caplog.text == ""
    assert [content(stand_in, job) for job in jobs] == ["done", "job 2 is queued", "done", "half"]


async def test_bad_arguments_are_refused_by_name(client: discord.Client) -> None:
    with pytest.raises(InvalidInput, match="client is a str"):
        ProgressUpdater("bot")
    for field, value in {"edits": 0, "per": -1, "every": "1", "limit": 0}.items():
        with pytest.raises(InvalidInput, match=field):
            ProgressUpdater(client, **{field: value})
    async with ProgressUpdater(client) as updater:
        with pytest.raises(InvalidInput, match="nothing to show"):
            updater.show(row(1))
        with pytest.raises(InvalidInput, match="does not take file"):
            updater.show(row(1), "x", file=b"")
        with pytest.raises(InvalidInput, match="content is 7"):
            updater.show(row(1), 7)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="timeout"):
            await updater.settle(1, timeout=-1)
