"""A stand-in for Discord on loopback: as much of REST and gateway as a bot needs.

    async with StandIn() as discord:
        …                                  # a bot logs in at discord.url
        used = await discord.slash("encode", {"link": "https://…"})
        await discord.click(used.message(), "cancel:7")

It is strict where Discord is: acknowledge within 3 s, tokens of 15 min, edit limits of a channel,
error 30046, 10008. All that was asked of it is in `discord.calls`.
"""

from __future__ import annotations

from tests.discord.stand_in.calls import Call
from tests.discord.stand_in.interactions import Used
from tests.discord.stand_in.server import StandIn
from tests.discord.stand_in.world import CHANNEL_ID, GUILD_ID, TOKEN, USER_ID, Rules

__all__ = ["CHANNEL_ID", "GUILD_ID", "TOKEN", "USER_ID", "Call", "Rules", "StandIn", "Used"]
