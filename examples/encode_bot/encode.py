"""The encode: part after part, each kept from the moment it is there, then joined."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Any

from examples.encode_bot.download import fetch
from examples.encode_bot.ffmpeg import run_ffmpeg
from examples.encode_bot.plan import Part, Plan
from examples.encode_bot.tools import Tools
from examples.encode_queue.clips import write_subtitles
from examples.encode_queue.facts import publish
from pandora_db import Preset
from pandora_db.runtime import JobContext, Progress, run_blocking


async def encode(ctx: JobContext, tools: Tools) -> dict[str, Any]:
    """Encode what was downloaded; an attempt after a kill goes on with the part that was cut off.

    Raises:
        HopelessError: there is no video in it.
        StepError: ffmpeg refuses.
    """
    source = await fetch(ctx, tools)  # there already, unless another machine had it
    folder = ctx.data_dir / "encode"
    state: dict[str, Any] | None = await ctx.load_checkpoint()
    if state is None:
        preset = ctx.job.to_job_metadata().preset
        plan = await Plan.make(preset, source, tools.intro, tools.settings.segment)
        state = {"plan": plan.to_state(), "frames": {}}
        await run_blocking(shutil.rmtree, folder, ignore_errors=True)  # of a job that was retried
        await ctx.checkpoint(state, force=True)
    plan = Plan.of(state["plan"])
    parts = plan.parts(source, tools.intro)
    folder.mkdir(exist_ok=True)
    bar = _Bar(ctx, parts)
    for number, part in enumerate(parts):
        await ctx.check_interrupt()
        file = folder / part.name
        if part.name not in state["frames"] or not file.exists():
            await bar.begin(number)
            frames = await _make(part, file, bar)
            # A part that is not in the checkpoint is made again, so it is written for each.
            state["frames"][part.name] = frames
            await ctx.checkpoint(state, force=True)
        bar.done(part)
    ctx.progress(Progress.percentage(0.99, "joining the parts"))
    # A container may claim to be longer than its pictures: the last parts are empty then.
    pictures = [part for part in parts if part.video and state["frames"][part.name]]
    await _join(ctx, plan, pictures, folder)
    size = (ctx.data_dir / "encoded.mp4").stat().st_size
    return {"encoder": plan.encoder[0], "parts": len(parts), "bytes": size}


async def _make(part: Part, file: Path, bar: _Bar) -> int:
    # The name is new each time: a worker that was lost may still be writing to its own.
    draft = file.with_name(f"{secrets.token_hex(4)}.draft")
    try:
        frames = await run_ffmpeg(*part.arguments, str(draft), report=bar.move)
        await publish(draft, file)
    finally:
        draft.unlink(missing_ok=True)
    return frames


async def _join(ctx: JobContext, plan: Plan, pictures: list[Part], folder: Path) -> None:
    lines: list[str] = []
    for part in pictures:
        lines += [f"file {part.name}", f"duration {part.seconds:g}"]
    listing = folder / "parts.txt"
    # Without the length of the last one: it is as long as it is.
    listing.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    inputs = ["-f", "concat", "-i", str(listing)]
    maps = ["-map", "0:v"]
    if plan.has_sound:
        inputs += ["-i", str(folder / "sound.m4a")]
        maps += ["-map", "1:a"]
    if plan.preset is Preset.CONCAT_SOME_SUBS:
        assert plan.intro is not None
        subtitles = folder / "subtitles.srt"
        words = [f"for {ctx.job.author}", f"job {ctx.job_id}", "encoded with pandora_db"]
        each = min(2.0, plan.source.seconds / len(words))
        write_subtitles(subtitles, words, start=plan.intro.seconds, each=each)
        inputs += ["-i", str(subtitles)]
        maps += ["-map", "2:s", "-c:s", "mov_text"]
    draft = folder / f"{secrets.token_hex(4)}.draft"
    copying = ["-c:v", "copy", "-c:a", "copy", "-movflags", "+faststart", "-f", "mp4"]
    await run_ffmpeg(*inputs, *maps, *copying, str(draft))
    await publish(draft, ctx.data_dir / "encoded.mp4")


class _Bar:
    """The progress of all parts together."""

    def __init__(self, ctx: JobContext, parts: list[Part]) -> None:
        self._ctx = ctx
        self._parts = parts
        self._whole = sum(part.seconds for part in parts) or 1.0
        self._ready = 0.0
        self._words = "encoding"

    async def begin(self, number: int) -> None:
        self._words = f"encoding, part {number + 1} of {len(self._parts)}"
        await self.move(0.0)

    async def move(self, seconds: float) -> None:
        if self._ctx.interrupted == "cancel":  # a pause or a shutdown may wait for the part
            await self._ctx.check_interrupt()
        share = min((self._ready + seconds) / self._whole, 0.98)
        self._ctx.progress(Progress.percentage(share, self._words))

    def done(self, part: Part) -> None:
        self._ready += part.seconds
