"""What users may ask for: a place in the queue, and to have it given up."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import discord

from examples.encode_bot.failure import RefusedError
from examples.encode_bot.settings import Settings
from pandora_db import InvalidTransition, Job, JobDb, JobRow, QueueFull


@dataclass(frozen=True, slots=True)
class Source:
    """A video that somebody wants to have encoded."""

    link: str
    title: str


def source_of(link: str | None, file: discord.Attachment | None, settings: Settings) -> Source:
    """What was given: a link or an attachment.

    Raises:
        RefusedError: neither, both, no link, or a file that is too large.
    """
    if file is not None and link is None:
        if file.size > settings.source_limit:
            raise RefusedError(f"the file is larger than {settings.source_limit / 1e6:g} MB")
        return Source(file.url, file.filename)
    if link is None or file is not None:
        raise RefusedError("give a link or a file, one of them")
    no_link = RefusedError("this is no link; expected https://…")
    try:
        parts = urlsplit(link.strip())
        host = parts.hostname
    except ValueError as error:
        raise no_link from error
    if not host or parts.scheme not in ("http", "https"):
        raise no_link
    name = unquote(parts.path).rstrip("/").rpartition("/")[2]
    return Source(link.strip(), name or host)


async def submit(db: JobDb, job: Job, settings: Settings) -> int:
    """Queue a job, unless the queue is full or its author has enough in it.

    Raises:
        RefusedError: there is no place.
    """
    try:
        async with db.transaction() as tx:
            # `max_active` lets one request in at a time, of whichever process, until the commit: so
            # what is counted behind it is the truth.
            job_id = await tx.insert_job(job, max_active=settings.queue_limit)
            mine = await tx.count_jobs(author_id=job.author_id, archived=False)
            if mine > settings.user_limit:
                raise RefusedError(
                    f"you have {mine - 1} jobs in the queue, which is the most; wait for one to "
                    "end, or cancel one"
                )
    except QueueFull as full:
        raise RefusedError(f"the queue is full: {full.limit} jobs; try again later") from full
    return job_id


async def find_job(db: JobDb, interaction: discord.Interaction, job_id: int) -> JobRow:
    """A job that the user may see: their own, or one of this guild.

    Raises:
        RefusedError: there is none.
    """
    job = await db.get_job(job_id)
    here = job is not None and job.guild_id is not None and job.guild_id == interaction.guild_id
    if job is None or not (here or job.author_id == interaction.user.id):
        raise RefusedError(f"there is no job {job_id} here")
    return job


async def cancel(db: JobDb, interaction: discord.Interaction, job_id: int) -> str:
    """Cancel a job for its author, or for a moderator of its guild; what to tell them.

    Raises:
        RefusedError: there is no such job here, or it is somebody else's.
    """
    job = await find_job(db, interaction, job_id)
    moderator = job.guild_id == interaction.guild_id and interaction.permissions.manage_messages
    if job.author_id != interaction.user.id and not moderator:
        raise RefusedError(f"job {job_id} is somebody else's")
    try:
        ended = await db.cancel_job(job_id)
    except InvalidTransition:
        raise RefusedError(f"job {job_id} has ended already") from None
    return f"job {job_id} is cancelled" if ended else f"job {job_id} stops in a moment"
