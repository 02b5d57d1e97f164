"""One library, whichever is installed, shows jobs on the stand-in; started by `libraries.py`.

    python -m tests.discord.library_probe discord|nextcord|disnake

prints its version and, one a line, what it did; it fails at the first thing that is not so.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import warnings
from typing import TYPE_CHECKING, Any

from pandora_db import Job, JobDb, JobRow, Stage
from pandora_db.discord import JobMessages, MessageRef, ProgressUpdater, render_job
from tests.discord.stand_in import CHANNEL_ID, GUILD_ID, TOKEN, USER_ID, Rules, StandIn
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

QUICK = {"edits": 5, "per": 0.5, "every": 0.1}


class Probe:
    """A client of the library, connected to the stand-in."""

    def __init__(self, library: Any, stand_in: StandIn, client: Any, db: JobDb) -> None:
        self.library = library
        self.stand_in = stand_in
        self.client = client
        self.db = db

    async def job(self) -> JobRow:
        """A stored job with a message."""
        message = await self.client.get_partial_messageable(CHANNEL_ID).send("queued")
        ref = MessageRef.of(message, user=USER_ID)
        job_id = await self.db.insert_job(Job(author="mika", **ref.job_fields()))
        return await self.read(job_id)

    async def read(self, job_id: int) -> JobRow:
        job = await self.db.get_job(job_id)
        assert job is not None
        return job

    def newest(self) -> str:
        return self.stand_in.messages()[-1].content

    async def reference_of_a_response(self) -> None:
        """MessageRef.of an answer to a command"""
        made: list[MessageRef] = []

        async def on_interaction(interaction: Any) -> None:
            await interaction.response.send_message("queued")
            ask = getattr(interaction, "original_response", None) or interaction.original_message
            made.append(MessageRef.of(await ask(), interaction.user))
            made.append(MessageRef.of(await interaction.channel.fetch_message(made[0].message_id)))

        self.client.event(on_interaction)
        self.stand_in.world.commands.append({"id": "7", "name": "encode", "options": []})
        used = await self.stand_in.slash("encode")
        await wait_until(lambda: len(made) == 2)
        expected = MessageRef(CHANNEL_ID, used.message().message_id, GUILD_ID, USER_ID)
        assert made == [expected, expected], made

    async def gathering(self) -> None:
        """two jobs, 60 updates a second, every last state"""
        jobs = [await self.job(), await self.job()]
        async with ProgressUpdater(self.client, self.db, **QUICK) as updater:
            for step in range(90):
                for job in jobs:
                    updater.show(job, f"{step}")
                await asyncio.sleep(1 / 60)
            for job in jobs:
                assert await updater.finish(job, "done")
        assert [each.content for each in self.stand_in.messages()[-2:]] == ["done", "done"]
        assert self.stand_in.too_many == [], self.stand_in.too_many

    async def embed_and_view(self) -> None:
        """an embed with a button, then neither"""
        job = await self.job()
        view = self.library.ui.View(timeout=None)
        view.add_item(self.library.ui.Button(label="Cancel", custom_id="cancel:1"))
        embed = self.library.Embed(title="half")
        async with ProgressUpdater(self.client, self.db, **QUICK) as updater:
            updater.show(job, embed=embed, view=view)
            assert await updater.settle(job.job_id)
            message = self.stand_in.messages()[-1]
            assert message.embeds[0]["title"] == "half"
            assert [part["custom_id"] for part in message.buttons()] == ["cancel:1"]
            assert await updater.shows(job, embed=embed)
            assert not await updater.shows(job, embed=self.library.Embed(title="done"))
            assert await updater.finish(job, "done", embed=None, view=None)
        assert (message.content, message.embeds, message.components) == ("done", [], [])

    async def deleted(self) -> None:
        """a deleted message is replaced, and stored"""
        job = await self.job()
        self.stand_in.delete(job.message_id)
        view = self.library.ui.View(timeout=None)
        view.add_item(self.library.ui.Button(label="Cancel", custom_id="cancel:2"))
        async with ProgressUpdater(self.client, self.db, **QUICK) as updater:
            updater.show(job, "half", view=view)
            assert await updater.settle(job.job_id)
            assert await updater.finish(job, "done", view=None)
        message = self.stand_in.messages()[-1]
        assert (message.content, message.components) == ("done", [])
        assert (await self.read(job.job_id)).message_id == message.message_id

    async def too_old(self) -> None:
        """error 30046: a new message takes its place"""
        self.stand_in.rules.old_edits = (0, 4000.0)
        self.stand_in.advance(-3700)
        job = await self.job()
        self.stand_in.advance(3700)
        async with ProgressUpdater(self.client, self.db, **QUICK) as updater:
            assert await updater.finish(job, "done", timeout=30)
        assert self.newest() == "done"
        assert (await self.read(job.job_id)).message_id != job.message_id

    async def gone(self) -> None:
        """a channel that is gone, a server that fails, a text that is refused"""
        job = await self.job()
        self.stand_in.fail("PATCH /channels/", 503, times=1)
        self.stand_in.fail("PATCH /channels/", 400, 50035, times=1)
        async with ProgressUpdater(self.client, self.db, **QUICK) as updater:
            updater.show(job, "refused after a while")
            assert not await updater.settle(job.job_id, timeout=30)
            updater.show(job, "half")
            assert await updater.settle(job.job_id)
            self.stand_in.fail("PATCH /channels/", 403, 50001)
            assert not await updater.finish(job, "done")
        assert self.newest() == "half"

    async def following(self) -> None:
        """JobMessages to the end of a job, and what ended while nobody looked"""
        job, ended = await self.job(), await self.job()
        texts = self.stand_in.world.messages
        async with (
            ProgressUpdater(self.client, self.db, **QUICK) as updater,
            JobMessages(self.db, updater, render_job, every=0.1),
        ):
            await self.db.update_stage(job.job_id, Stage.ENCODING)
            await self.db.update_stage(job.job_id, Stage.UPLOADED)
            done = f"**Job {job.job_id}** is done"
            await wait_until(lambda: texts[job.message_id].content == done)
        await self.db.update_stage(ended.job_id, Stage.FAILED)
        async with (
            ProgressUpdater(self.client, self.db, **QUICK) as updater,
            JobMessages(self.db, updater, render_job),
        ):
            failed = f"**Job {ended.job_id}** failed"
            await wait_until(lambda: texts[ended.message_id].content == failed)


async def main(name: str) -> None:
    library = importlib.import_module(name)
    route = importlib.import_module(f"{name}.http").Route
    async with StandIn(Rules(edits=(5, 0.5), sends=(5, 0.5))) as stand_in:
        client = library.Client(intents=library.Intents.default())
        for base in ("BASE", "API_BASE_URL"):
            if hasattr(route, base):
                setattr(route, base, stand_in.url)
        gateway = importlib.import_module(f"{name}.gateway").DiscordWebSocket
        if hasattr(gateway, "DEFAULT_GATEWAY"):
            url = importlib.import_module("yarl").URL(stand_in.gateway_url)
            gateway.DEFAULT_GATEWAY = url
        running = asyncio.create_task(client.start(TOKEN))
        await stand_in.wait_connected()
        await client.wait_until_ready()
        async with JobDb.open(":memory:") as db:
            await db.init_schema()
            probe = Probe(library, stand_in, client, db)
            scenes: list[Callable[[], Awaitable[None]]] = [
                probe.reference_of_a_response, probe.gathering, probe.embed_and_view,
                probe.deleted, probe.following, probe.gone, probe.too_old,
            ]  # fmt: skip
            for scene in scenes:
                await scene()
                print(f"  {scene.__doc__}", flush=True)
        await client.close()
        running.cancel()  # py-cord would connect again
        await asyncio.gather(running, return_exceptions=True)


if __name__ == "__main__":
    warnings.filterwarnings("error", category=DeprecationWarning, module="pandora_db")
    asyncio.run(main(sys.argv[1]))
