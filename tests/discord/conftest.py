"""A stand-in for Discord for each test, and the real discord.py logged in to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import discord
import pytest

from tests.discord.stand_in import CHANNEL_ID, GUILD_ID, TOKEN, USER_ID, Rules, StandIn
from tests.discord.stand_in.library import pointed_at
from tests.support.messages import row

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from pandora_db import JobRow

# Five edits in half a second, so that no test waits for long; one test keeps to Discord's own.
QUICK = {"edits": 5, "per": 0.5, "every": 0.1}


@pytest.fixture
async def stand_in() -> AsyncIterator[StandIn]:
    async with StandIn(Rules(edits=(5, 0.5), sends=(5, 0.5))) as server:
        with pointed_at(server.url):
            yield server


@pytest.fixture
async def client(stand_in: StandIn) -> AsyncIterator[discord.Client]:
    """A client of discord.py that has logged in; it is not connected to the gateway."""
    client = discord.Client(intents=discord.Intents.none())
    await client.login(TOKEN)
    yield client
    await client.close()


@pytest.fixture
def new_job(client: discord.Client) -> Callable[[int], Awaitable[JobRow]]:
    """Makes a job that is nowhere stored, with a message of the bot."""

    async def make(job_id: int) -> JobRow:
        message = await client.get_partial_messageable(CHANNEL_ID).send(f"job {job_id} is queued")
        return row(
            job_id, channel_id=CHANNEL_ID, message_id=message.id, guild_id=GUILD_ID,
            author_id=USER_ID,
        )  # fmt: skip

    return make
