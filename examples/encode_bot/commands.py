"""The commands. They read and write the log of jobs; the work is done elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import discord
from discord import app_commands

from examples.encode_bot.answers import answering
from examples.encode_bot.buttons import page_view
from examples.encode_bot.pages import read_page
from examples.encode_bot.requests import cancel as cancel_job
from examples.encode_bot.requests import find_job, source_of, submit
from examples.encode_bot.wording import event_line, line_of, message_of, safe
from examples.encode_queue.facts import PRESET_NAMES
from pandora_db import Job, Preset
from pandora_db.discord import MessageRef

if TYPE_CHECKING:
    from examples.encode_bot.bot import EncodeBot

Number = app_commands.Range[int, 0, 2**53]
_SHOWN = 10
_CHOICES = [
    app_commands.Choice(name=name, value=preset.name) for preset, name in PRESET_NAMES.items()
]


@app_commands.command(description="Encode a video")
@app_commands.describe(link="where it is", file="or the video itself", preset="how to encode it")
@app_commands.choices(preset=_CHOICES)
async def encode(
    interaction: discord.Interaction[EncodeBot],
    link: str | None = None,
    file: discord.Attachment | None = None,
    preset: str = Preset.STANDARD.name,
) -> None:
    """Queue a job. Its message is this answer, which `JobMessages` keeps true from here on."""
    bot = interaction.client
    async with answering(interaction, public=True):
        source = source_of(link, file, bot.settings)
        # An ordinary message by now, which can be edited without the token of the interaction:
        # that is valid for 15 minutes only.
        message = await interaction.edit_original_response(content=f"{safe(source.title)} …")
        job = Job(
            author=interaction.user.display_name,
            link=source.link,
            preset=Preset[preset],
            # Should the interaction be delivered twice, the second insert finds the first job.
            idempotency_key=f"interaction:{interaction.id}",
            config={"title": source.title},
            **MessageRef.of(message, interaction.user).job_fields(),
        )
        await submit(bot.db, job, bot.settings)


@app_commands.command(description="What is in the queue")
async def queue(interaction: discord.Interaction[EncodeBot]) -> None:
    """The jobs of this guild, or of this user in direct messages."""
    bot = interaction.client
    async with answering(interaction):
        whose: dict[str, Any] = {"guild_id": interaction.guild_id}
        if interaction.guild_id is None:
            whose = {"author_id": interaction.user.id}
        length = await bot.db.get_queue_length()
        jobs = await bot.db.get_jobs(archived=False, limit=_SHOWN, **whose)
        lines = [f"{length} of {bot.settings.queue_limit} places are taken"]
        lines += [line_of(job) for job in reversed(jobs)]
        await interaction.edit_original_response(content="\n".join(lines))


@app_commands.command(description="Your jobs, newest first")
async def myjobs(interaction: discord.Interaction[EncodeBot]) -> None:
    """The first page; its buttons turn to the others."""
    async with answering(interaction):
        page = await read_page(interaction.client.db, interaction.user.id)
        await interaction.edit_original_response(content=page.text, view=page_view(page))


@app_commands.command(description="One job and what became of it")
@app_commands.describe(number="of the job")
async def job(interaction: discord.Interaction[EncodeBot], number: Number) -> None:
    """The message of a job once more, and its history."""
    db = interaction.client.db
    async with answering(interaction):
        found = await find_job(db, interaction, number)
        lines = [message_of(found, await db.queue_position(number))]
        lines += [event_line(event) for event in (await db.history(number))[-_SHOWN:]]
        await interaction.edit_original_response(content="\n".join(lines)[:2000])


@app_commands.command(description="Cancel a job")
@app_commands.describe(number="of the job")
async def cancel(interaction: discord.Interaction[EncodeBot], number: Number) -> None:
    """For its author, and for moderators."""
    async with answering(interaction):
        words = await cancel_job(interaction.client.db, interaction, number)
        await interaction.edit_original_response(content=words)


COMMANDS: tuple[app_commands.Command[Any, ..., None], ...] = (encode, queue, myjobs, job, cancel)
