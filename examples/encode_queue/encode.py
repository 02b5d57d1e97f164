"""An encoder: a process of its own that works on the encode stage.

    python -m examples.encode_queue.encode INTRO [--quick]

The database is `PANDORA_DB_URL`. It works until its stdin is closed: when the program that started
it is gone, however that came about, it ends too.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

from examples.encode_queue.facts import SETTINGS, Workspace, json_of, preset_of
from examples.encode_queue.failure import StepError
from examples.encode_queue.presets import choose_encoder
from examples.encode_queue.segments import Film, plan
from pandora_db import JobDb, Stage
from pandora_db.runtime import Fail, JobContext, Pipeline, Progress


def encoder(intro: Path, *, quick: bool) -> Pipeline:
    """A pipeline of one stage; `intro` is the clip that the concat presets put in front."""
    pipeline = Pipeline()

    @pipeline.stage(
        Stage.DOWNLOADED, Stage.ENCODING, Stage.ENCODED, retry_in=1.0, progress_every=0.25
    )
    async def encode(ctx: JobContext) -> dict[str, object] | Fail:
        """Encode in segments. Each that is complete is in the checkpoint, and stays."""
        space, preset = Workspace.of(ctx.job), preset_of(ctx.job)
        if not space.source.exists():
            return Fail("encoding: the downloaded file is gone from the job's folder", final=True)
        try:
            film = await Film.open(ctx.job, intro)
        except StepError as error:
            return Fail(f"encoding: {error}", final=True)
        state = await ctx.load_checkpoint()
        if state is None:
            # Both are kept: segments that do not match cannot be joined.
            codec = await choose_encoder(preset, quick=quick)
            state = {"codec": codec, "cuts": plan(film), "done": []}
            await ctx.checkpoint(state, force=True)
        codec, cuts, done = state["codec"], state["cuts"], state["done"]
        while done and not space.segment(len(done) - 1).exists():
            done.pop()
        if done:
            ctx.log(f"goes on at segment {len(done) + 1} of {len(cuts)}; {len(done)} are kept")
        for index in range(len(done), len(cuts)):
            await ctx.check_interrupt()
            ctx.progress(Progress.count(index, len(cuts), f"segment {index + 1} of {len(cuts)}"))
            ctx.log(f"attempt {ctx.attempt}, segment {index + 1} of {len(cuts)}")
            await film.encode(cuts[index], codec, space.segment(index))
            # An attempt that was given back has the number of the one after it.
            done.append({"attempt": ctx.attempt, "owner": ctx.claim.owner})
            await ctx.checkpoint(state, force=True)
        ctx.progress(Progress.count(len(cuts), len(cuts), "joining the segments"))
        await film.join([(space.segment(n), cut[2]) for n, cut in enumerate(cuts)], space.encoded)
        return json_of(ctx.job.output) | {"encoder": codec[0], "segments": done}

    return pipeline


async def main(intro: Path, *, quick: bool) -> None:
    """Work until stdin is closed."""
    async with (
        JobDb.open(settings=SETTINGS) as db,
        encoder(intro, quick=quick).running(db, shutdown_timeout=4.0),
    ):
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    asyncio.run(main(Path(sys.argv[1]), quick="--quick" in sys.argv[2:]))
