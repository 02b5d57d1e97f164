"""MessageRef: of the real objects of discord.py, and of a stored job."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import discord
import pytest

from pandora_db import InvalidInput, Job
from pandora_db.discord import MessageRef
from tests.discord.stand_in import CHANNEL_ID, GUILD_ID, TOKEN, USER_ID, StandIn
from tests.support.messages import row
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable


async def refs(stand_in: StandIn, say: Callable[[discord.Interaction], Any]) -> Any:
    """What `say` makes of a command in a bot that is connected."""
    made: list[Any] = []
    async with discord.Client(intents=discord.Intents.default()) as bot:
        tree = discord.app_commands.CommandTree(bot)

        @tree.command()
        async def encode(interaction: discord.Interaction) -> None:
            """Encode."""
            made.append(await say(interaction))

        await bot.login(TOKEN)
        await tree.sync()
        running = asyncio.create_task(bot.connect())
        await stand_in.wait_connected()
        await stand_in.slash("encode")
        await wait_until(lambda: made)
    await running
    return made[0]


async def test_the_original_response(stand_in: StandIn) -> None:
    async def say(interaction: discord.Interaction) -> MessageRef:
        await interaction.response.defer()
        return MessageRef.of(await interaction.original_response())

    ref = await refs(stand_in, say)
    (message,) = stand_in.messages()
    assert ref == MessageRef(CHANNEL_ID, message.message_id, GUILD_ID, USER_ID)


async def test_what_the_response_returned(stand_in: StandIn) -> None:
    async def say(interaction: discord.Interaction) -> MessageRef:
        return MessageRef.of(await interaction.response.send_message("…"), interaction.user)

    ref = await refs(stand_in, say)
    (message,) = stand_in.messages()
    assert ref == MessageRef(CHANNEL_ID, message.message_id, GUILD_ID, USER_ID)


async def test_a_follow_up(stand_in: StandIn) -> None:
    async def say(interaction: discord.Interaction) -> MessageRef:
        await interaction.response.send_message("…")
        return MessageRef.of(await interaction.followup.send("…", wait=True), interaction.user)

    ref = await refs(stand_in, say)
    assert ref == MessageRef(CHANNEL_ID, stand_in.messages()[1].message_id, GUILD_ID, USER_ID)


async def test_an_ephemeral_message_is_refused(stand_in: StandIn) -> None:
    async def say(interaction: discord.Interaction) -> str:
        await interaction.response.send_message("…", ephemeral=True)
        with pytest.raises(InvalidInput, match="ephemeral") as caught:
            MessageRef.of(await interaction.original_response())
        return str(caught.value)

    assert "not after a restart" in await refs(stand_in, say)


async def test_a_message_that_was_sent_or_is_known_by_its_id(
    stand_in: StandIn, client: discord.Client
) -> None:
    channel = client.get_partial_messageable(CHANNEL_ID, guild_id=GUILD_ID)
    sent = await channel.send("…")
    assert MessageRef.of(sent).message_id == sent.id
    assert MessageRef.of(channel.get_partial_message(sent.id)) == MessageRef(CHANNEL_ID, sent.id)


def test_to_a_job_and_back() -> None:
    ref = MessageRef(5, 6, 7, 8)
    job = Job(author="mika", **ref.job_fields())
    assert (job.channel_id, job.message_id, job.guild_id, job.author_id) == (5, 6, 7, 8)
    assert MessageRef.from_job(row(1, **ref.job_fields())) == ref
    assert MessageRef(5, 6).job_fields() == {"channel_id": 5, "message_id": 6}


def test_a_job_without_a_channel_has_none() -> None:
    assert MessageRef.from_job(row(1)) is None
    assert MessageRef.from_job(row(1, message_id=6)) is None
    # What other programs store.
    assert MessageRef.from_job(row(1, channel_id=-1, message_id=-1)) is None
    assert MessageRef.from_job(row(1, channel_id=5, message_id=None)) == MessageRef(5, 0)


def test_the_age_is_in_the_id(stand_in: StandIn) -> None:
    stand_in.advance(-100)
    age = MessageRef(1, stand_in.world.snowflake()).age()
    assert 100 <= age < 100 + 60
    assert MessageRef(1, 0).age() == 0.0
    far = (int(time.time() * 1000) + 10_000_000 - 1_420_070_400_000) << 22
    assert MessageRef(1, far).age() == 0.0


@pytest.mark.parametrize("message", [None, 7, "text", object(), discord.Object(7)])
def test_what_is_no_message_is_refused(message: object) -> None:
    with pytest.raises(InvalidInput, match="expected a message of the bot"):
        MessageRef.of(message)


def test_bad_ids_are_refused() -> None:
    for ids in ((-1, 1), (1, 2**63), (1, 1, "2"), (1, 1, 1, True)):
        with pytest.raises(InvalidInput):
            MessageRef(*ids)  # type: ignore[arg-type]
    message = discord.Object(1)
    message.channel = discord.Object(2)  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput, match="user is a str"):
        MessageRef.of(message, user="mika")
