"""Jobs in the hands of the bot's handlers, without a bot."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import discord

from examples.encode_bot.network import new_session
from examples.encode_bot.tools import Tools
from pandora_db import Job, JobDb, Preset, Stage
from pandora_db.runtime import JobContext
from pandora_db.runtime.data_dirs import dirs_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from examples.encode_bot.settings import Settings


@asynccontextmanager
async def tools_of(settings: Settings) -> AsyncIterator[Tools]:
    async with new_session(private_links=settings.private_links) as http:
        client = discord.Client(intents=discord.Intents.none())
        yield Tools(settings, http, client, settings.data / "intro.mp4")


async def begin(db: JobDb, tools: Tools, link: str, preset: Preset = Preset.STANDARD) -> JobContext:
    """A job at its download."""
    job_id = await db.insert_job(
        Job(author="mika", author_id=41, link=link, preset=preset, config={"title": "a clip.mkv"})
    )
    claim = await db.claim_job(job_id, into=Stage.DOWNLOADING)
    assert claim is not None
    return JobContext(db, claim, dirs=await dirs_of(db, tools.settings.jobs))


async def go_on(ctx: JobContext, waiting: Stage, working: Stage) -> JobContext:
    """The same job at its next stage."""
    db, tools_root = ctx.db, ctx.data_dir.parent
    await db.finish_job(ctx.claim, waiting)
    claim = await db.claim_job(ctx.job_id, into=working)
    assert claim is not None
    return JobContext(db, claim, dirs=await dirs_of(db, tools_root))
