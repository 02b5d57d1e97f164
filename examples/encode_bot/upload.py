"""The upload: posts the result in the channel, or puts it into a folder if it is too large."""

from __future__ import annotations

import secrets
import shutil
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote

import discord

from examples.encode_bot.tools import Tools
from examples.encode_queue.facts import title
from pandora_db.runtime import Done, JobContext, Progress, run_blocking


async def upload(ctx: JobContext, tools: Tools) -> Done:
    """Hand the result over, once: an attempt after a kill finds that it was."""
    delivered: dict[str, Any] | None = await ctx.load_checkpoint()
    if delivered is None:
        ctx.progress(Progress.indeterminate("uploading"))
        file = ctx.data_dir / "encoded.mp4"
        size = file.stat().st_size
        delivered = await _post(ctx, tools, file, size) or await _keep(ctx, tools, file, size)
        await ctx.checkpoint(delivered, force=True)
    return Done(delivered, kind="video", file=delivered.get("file"))


async def _post(ctx: JobContext, tools: Tools, file: Path, size: int) -> dict[str, Any] | None:
    job = ctx.job
    if size > tools.settings.upload_limit:
        return None
    channel = tools.client.get_partial_messageable(job.channel_id, guild_id=job.guild_id)
    name = f"{Path(title(job)).stem[:80] or 'video'}.mp4"
    mention = discord.Object(job.author_id or 0)
    try:
        # Posted again with the same nonce within minutes, it is the same message: a bot that was
        # killed between posting and writing that down does not post twice.
        message = await channel.send(
            f"<@{mention.id}> job {job.job_id} is done",
            file=discord.File(file, filename=name),
            nonce=f"result-{job.job_id}-{ctx.job.requested_at}",
            allowed_mentions=discord.AllowedMentions(everyone=False, roles=False, users=[mention]),
        )
    except discord.HTTPException as error:
        if error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or isinstance(
            error, discord.Forbidden | discord.NotFound
        ):
            return None  # no files here, or the channel is gone: the result is kept all the same
        raise
    return {"bytes": size, "message_id": str(message.id), "url": message.jump_url}


async def _keep(ctx: JobContext, tools: Tools, file: Path, size: int) -> dict[str, Any]:
    folder = tools.settings.results
    target = folder / f"{ctx.job_id}.mp4"

    def copy() -> None:
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f"{secrets.token_hex(4)}.draft"
        try:
            shutil.copyfile(file, draft)
            draft.replace(target)
        finally:
            draft.unlink(missing_ok=True)

    await run_blocking(copy)
    kept: dict[str, Any] = {"bytes": size, "file": str(target)}
    if tools.settings.public_url:
        kept["url"] = f"{tools.settings.public_url.rstrip('/')}/{quote(target.name)}"
    return kept
