"""The three stages of a job, as the workers of this process do them."""

from __future__ import annotations

from typing import Any

from examples.encode_bot.download import fetch
from examples.encode_bot.encode import encode as encode_parts
from examples.encode_bot.failure import HopelessError
from examples.encode_bot.tools import Tools
from examples.encode_bot.upload import upload as hand_over
from pandora_db import Backoff, Stage
from pandora_db.runtime import Done, Fail, JobContext, Pipeline

_DOWNLOADS, _UPLOADS = 2, 2
_LONGEST = 6 * 3600.0  # seconds of an attempt: a server that drips, or a film that never ends
_AGAIN = Backoff(first=5.0, most=600.0)


def make_pipeline(tools: Tools) -> Pipeline:
    """Handlers by stage. What they raise fails the attempt, and there is another one later."""
    pipeline = Pipeline()

    @pipeline.stage(
        Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED,
        concurrency=_DOWNLOADS, timeout=_LONGEST, retry_in=_AGAIN,
    )  # fmt: skip
    async def download(ctx: JobContext) -> Fail | None:
        try:
            await fetch(ctx, tools)
        except HopelessError as error:
            return Fail(str(error), final=True)
        return None

    @pipeline.stage(
        Stage.DOWNLOADED, Stage.ENCODING, Stage.ENCODED,
        concurrency=tools.settings.encoders, timeout=_LONGEST, retry_in=_AGAIN,
    )  # fmt: skip
    async def encode(ctx: JobContext) -> dict[str, Any] | Fail:
        try:
            return await encode_parts(ctx, tools)
        except HopelessError as error:
            return Fail(str(error), final=True)

    @pipeline.stage(
        Stage.ENCODED, Stage.UPLOADING, Stage.UPLOADED, concurrency=_UPLOADS, retry_in=_AGAIN
    )
    async def upload(ctx: JobContext) -> Done:
        return await hand_over(ctx, tools)

    return pipeline
