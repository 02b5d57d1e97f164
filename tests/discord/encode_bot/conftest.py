"""A bot with all that it needs around it, and what its handlers need without it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from examples.encode_bot.settings import Settings, read_settings
from tests.discord.encode_bot.bot_process import Ffmpeg, Scene
from tests.discord.encode_bot.clips import SECONDS, make_clip
from tests.discord.encode_bot.handlers import tools_of
from tests.discord.encode_bot.media_site import MediaSite
from tests.discord.stand_in import StandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from examples.encode_bot.tools import Tools
    from pandora_db import JobDb


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mkv", SECONDS)


@pytest.fixture
async def site() -> AsyncIterator[MediaSite]:
    async with MediaSite() as site:
        yield site


@pytest.fixture
async def scene(
    db: JobDb, db_url: str, site: MediaSite, clip: Path, tmp_path: Path
) -> AsyncIterator[Scene]:
    ffmpeg = Ffmpeg(tmp_path / "ffmpeg")
    async with StandIn() as discord:
        site.add("talk.mkv", clip.read_bytes())
        yield Scene(db, db_url, discord, site, ffmpeg, tmp_path, clip)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    found = read_settings({"DISCORD_TOKEN": "secret", "ENCODE_BOT_DATA": str(tmp_path)})
    return dataclasses.replace(found, private_links=True, segment=1.0, upload_limit=0)


@pytest.fixture
async def tools(settings: Settings) -> AsyncIterator[Tools]:
    async with tools_of(settings) as tools:
        yield tools
