"""The bot: what it opens in `setup_hook` it closes in `close`, in the opposite order."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack
from typing import Any

import discord
from discord import app_commands

from examples.encode_bot.buttons import CancelButton, PageButton, cancel_view
from examples.encode_bot.commands import COMMANDS
from examples.encode_bot.network import new_session
from examples.encode_bot.settings import Settings
from examples.encode_bot.tools import Tools
from examples.encode_bot.wording import message_of
from examples.encode_bot.work import make_pipeline
from examples.encode_queue.clips import QUICK, make_material
from pandora_db import JobDb, JobRow, Stage
from pandora_db.discord import JobMessages, ProgressUpdater

log = logging.getLogger("encode_bot")

_KEPT = 600.0  # seconds: a job that is retried soon finds its download again


class EncodeBot(discord.Client):
    """Commands and messages on one side, the workers on the other, the log of jobs between them.

    Attributes:
        settings: of the bot; the folder for data is there.
        db: the handle, from `setup_hook` to `close`.
        tree: the commands.
    """

    db: JobDb

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            # Neither members nor messages have to be seen: no privileged intent.
            intents=discord.Intents(guilds=True),
            allowed_mentions=discord.AllowedMentions.none(),
        )
        self.settings = settings
        self.tree = app_commands.CommandTree(self)
        self._opened = AsyncExitStack()
        self._closing = asyncio.Lock()
        self._views: dict[int, discord.ui.View] = {}

    async def setup_hook(self) -> None:
        """Open everything. Runs once, after the login and before the gateway."""
        settings, enter = self.settings, self._opened.enter_async_context
        # A short heartbeat: what it cannot renew, because the process was killed, is free after
        # `lease`. The handle looks for such jobs every `sweep` seconds.
        self.db = await enter(
            JobDb.open(
                settings.db_url,
                lease=settings.lease,
                heartbeat=settings.lease / 3,
                sweep=settings.lease / 3,
            )
        )
        await self.db.init_schema()
        # What a process that died longer ago left; no other process's jobs.
        report = await self.db.recover()
        for job in report.jobs:
            log.info("taken back: %s", job)
        intro = settings.intro
        if intro is None:
            _, intro = await make_material(settings.data, QUICK, log.info, only_intro=True)
        http = await enter(new_session(private_links=settings.private_links))
        updater = await enter(ProgressUpdater(self, self.db))
        await enter(JobMessages(self.db, updater, self.render))
        # Last, so that its jobs are given back first: others take them, or this bot later.
        pipeline = make_pipeline(Tools(settings, http, self, intro))
        await enter(
            pipeline.running(
                self.db,
                data_root=settings.jobs,
                keep_data=_KEPT,
                grace=5.0,
                shutdown_timeout=20.0,
            )
        )
        # Buttons of earlier processes are known from here on, by their custom_id.
        self.add_dynamic_items(CancelButton, PageButton)
        for command in COMMANDS:
            self.tree.add_command(command)
        await self._sync()

    async def render(self, job: JobRow) -> dict[str, Any]:
        """What the message of a job shows; `JobMessages` asks for it when something has changed."""
        if Stage(job.ready).terminal:
            self._views.pop(job.job_id, None)
            return {"content": message_of(job, None), "view": None}
        position = await self.db.queue_position(job.job_id)
        # The same object each time: a message is edited when what it shows is another.
        view = self._views.get(job.job_id)
        if view is None:
            view = self._views[job.job_id] = cancel_view(job.job_id)
        return {"content": message_of(job, position), "view": view}

    async def close(self) -> None:
        """End gracefully: jobs are given back with what they have done, messages say so."""
        async with self._closing:  # called again meanwhile, it waits for the first
            try:
                await self._opened.aclose()
            finally:
                await super().close()

    async def _sync(self) -> None:
        guild_id = self.settings.guild_id
        if guild_id is None:
            await self.tree.sync()
            return
        guild = discord.Object(guild_id)
        self.tree.copy_global_to(guild=guild)
        await self.tree.sync(guild=guild)
