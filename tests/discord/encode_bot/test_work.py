"""Download, encode and upload, by the bot's own handlers."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from examples.encode_bot.download import fetch
from examples.encode_bot.encode import encode
from examples.encode_bot.failure import HopelessError
from examples.encode_bot.settings import Settings
from examples.encode_bot.tools import Tools
from examples.encode_bot.upload import upload
from examples.encode_queue.failure import StepError
from pandora_db import JobDb, Preset, Stage
from tests.discord.encode_bot.clips import FFMPEG, RATE, count_frames, make_clip, streams
from tests.discord.encode_bot.handlers import begin, go_on, tools_of
from tests.discord.encode_bot.media_site import MediaSite


async def test_a_download_that_was_cut_goes_on_where_it_was(
    db: JobDb, tools: Tools, site: MediaSite
) -> None:
    body = bytes(range(256)) * 4000
    link = site.add("film.mkv", body)
    site.items["film.mkv"].cut_after = 600_000
    ctx = await begin(db, tools, link)
    with pytest.raises(Exception, match="payload"):
        await fetch(ctx, tools)
    kept = (ctx.data_dir / "source.part").stat().st_size
    assert 0 < kept <= 600_000
    source = await fetch(ctx, tools)
    assert source.read_bytes() == body
    assert site.items["film.mkv"].ranges == [None, f"bytes={kept}-"]
    assert await fetch(ctx, tools) == source  # there already: nobody is asked
    assert len(site.items["film.mkv"].ranges) == 2


async def test_a_server_that_is_busy_costs_nothing_of_what_is_here(
    db: JobDb, tools: Tools, site: MediaSite
) -> None:
    body = bytes(range(256)) * 4000
    link = site.add("film.mkv", body)
    item = site.items["film.mkv"]
    item.cut_after = 600_000
    ctx = await begin(db, tools, link)
    with pytest.raises(Exception, match="payload"):
        await fetch(ctx, tools)
    kept = (ctx.data_dir / "source.part").stat().st_size
    item.busy = 1
    with pytest.raises(StepError, match="503"):
        await fetch(ctx, tools)
    assert (await fetch(ctx, tools)).read_bytes() == body
    assert item.ranges == [None, *[f"bytes={kept}-"] * 2]


async def test_a_file_that_has_changed_meanwhile_begins_anew(
    db: JobDb, tools: Tools, site: MediaSite
) -> None:
    link = site.add("film.mkv", b"old" * 100_000)
    site.items["film.mkv"].cut_after = 200_000
    ctx = await begin(db, tools, link)
    with pytest.raises(Exception, match="payload"):
        await fetch(ctx, tools)
    site.items["film.mkv"].body, site.items["film.mkv"].version = b"new" * 100_000, '"2"'
    assert (await fetch(ctx, tools)).read_bytes() == b"new" * 100_000


async def test_a_file_that_has_become_shorter_begins_anew(
    db: JobDb, tools: Tools, site: MediaSite
) -> None:
    link = site.add("film.mkv", b"x" * 300_000)
    site.items["film.mkv"].cut_after = 200_000
    ctx = await begin(db, tools, link)
    with pytest.raises(Exception, match="payload"):
        await fetch(ctx, tools)
    site.items["film.mkv"].body = b"y" * 1000  # and still calls itself the same version
    with pytest.raises(Exception, match="416"):
        await fetch(ctx, tools)
    assert (await fetch(ctx, tools)).read_bytes() == b"y" * 1000


@pytest.mark.parametrize(
    ("change", "name", "words"),
    [
        ({}, "nothing.mkv", "404 Not Found"),
        ({}, "empty.mkv", "the file is empty"),
        ({"source_limit": 1000}, "film.mkv", "larger than 0.001 MB"),
        ({"private_links": False}, "film.mkv", "private address"),
    ],
)
async def test_what_is_not_wanted_is_not_tried_again(
    change: dict[str, int], name: str, words: str, settings: Settings, site: MediaSite
) -> None:
    site.add("film.mkv", b"x" * 5000)
    site.add("empty.mkv", b"")
    changed = dataclasses.replace(settings, **change)  # type: ignore[arg-type]
    async with tools_of(changed) as tools, JobDb.open(":memory:") as db:
        await db.init_schema()
        ctx = await begin(db, tools, f"{site.base}/{name}")
        with pytest.raises(HopelessError, match=words):
            await fetch(ctx, tools)


async def test_what_is_no_video_is_not_tried_again(
    db: JobDb, tools: Tools, site: MediaSite
) -> None:
    ctx = await begin(db, tools, site.add("words.mkv", b"just words"))
    await fetch(ctx, tools)
    ctx = await go_on(ctx, Stage.DOWNLOADED, Stage.ENCODING)
    with pytest.raises(HopelessError, match="no video in it"):
        await encode(ctx, tools)


@pytest.mark.parametrize("sound", [True, False])
@pytest.mark.parametrize("preset", Preset)
async def test_the_parts_together_are_the_whole(
    preset: Preset, sound: bool, tools: Tools, site: MediaSite, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "clip.mkv", 2.4, sound=sound)
    make_clip(tools.intro, 0.5)
    link = site.add("clip.mkv", clip.read_bytes())
    async with JobDb.open(":memory:") as db:
        await db.init_schema()
        ctx = await begin(db, tools, link, preset)
        await fetch(ctx, tools)
        ctx = await go_on(ctx, Stage.DOWNLOADED, Stage.ENCODING)
        told = await encode(ctx, tools)
        ctx = await go_on(ctx, Stage.ENCODED, Stage.UPLOADING)
        done = await upload(ctx, tools)
    assert isinstance(done.output, dict)
    result = Path(str(done.file))
    assert result == tools.settings.results / f"{ctx.job_id}.mp4"
    assert done.output["bytes"] == told["bytes"] == result.stat().st_size
    concat = preset in (Preset.CONCAT_DEFAULT, Preset.CONCAT_SOME_SUBS)
    seconds, kinds = streams(result)
    wanted = 2.4 + (0.5 if concat else 0)
    assert count_frames(result) == round(wanted * RATE)
    assert seconds == pytest.approx(wanted, abs=0.1)
    assert kinds == (
        ["Video"]
        + (["Audio"] if sound or concat else [])
        + (["Subtitle"] if preset is Preset.CONCAT_SOME_SUBS else [])
    )


async def test_a_container_that_is_longer_than_its_pictures(
    db: JobDb, tools: Tools, site: MediaSite, tmp_path: Path
) -> None:
    short, long = make_clip(tmp_path / "short.mp4", 1.2), make_clip(tmp_path / "long.mp4", 3.5)
    mixed = tmp_path / "mixed.mkv"
    inputs = ["-i", str(short), "-i", str(long), "-map", "0:v", "-map", "1:a", "-c", "copy"]
    subprocess.run([FFMPEG, "-v", "error", *inputs, str(mixed)], check=True)
    ctx = await begin(db, tools, site.add("mixed.mkv", mixed.read_bytes()))
    await fetch(ctx, tools)
    ctx = await go_on(ctx, Stage.DOWNLOADED, Stage.ENCODING)
    await encode(ctx, tools)
    assert count_frames(ctx.data_dir / "encoded.mp4") == round(1.2 * RATE)
