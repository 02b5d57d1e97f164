"""What the handlers of the stages work with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import aiohttp
import discord

from examples.encode_bot.settings import Settings


@dataclass(frozen=True, slots=True)
class Tools:
    """One of each, for all jobs.

    Attributes:
        settings: of the bot.
        http: for downloads.
        client: the bot itself, which posts the results.
        intro: the video in front of the concat presets.
    """

    settings: Settings
    http: aiohttp.ClientSession
    client: discord.Client
    intro: Path
