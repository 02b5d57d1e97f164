"""The stand-in is as strict as Discord where the other tests rely on it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import discord
import pytest
from aiohttp import ClientSession

from tests.discord.stand_in import CHANNEL_ID, TOKEN, StandIn
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Answer = Callable[[discord.Interaction], Awaitable[None]]


@asynccontextmanager
async def bot(stand_in: StandIn, answer: Answer) -> AsyncIterator[discord.Client]:
    """A bot with one command, /encode, with two options."""
    async with discord.Client(intents=discord.Intents.default()) as client:
        tree = discord.app_commands.CommandTree(client)

        @tree.command()
        async def encode(
            interaction: discord.Interaction, file: discord.Attachment | None = None, crf: int = 20
        ) -> None:
            """Encode."""
            interaction.extras = {"file": file, "crf": crf}
            await answer(interaction)

        @tree.error
        async def failed(
            interaction: discord.Interaction, error: discord.app_commands.AppCommandError
        ) -> None:
            interaction.client.failures.append(error.__cause__)  # type: ignore[attr-defined]

        client.failures = []  # type: ignore[attr-defined]
        await client.login(TOKEN)
        await tree.sync()
        running = asyncio.create_task(client.connect())
        await stand_in.wait_connected()
        yield client
    await running


async def test_an_interaction_has_to_be_acknowledged_in_time(stand_in: StandIn) -> None:
    stand_in.rules.acknowledge_within = 0.2

    async def answer(interaction: discord.Interaction) -> None:
        await asyncio.sleep(0.3)
        await interaction.response.defer()

    async with bot(stand_in, answer) as client:
        with pytest.raises(AssertionError, match=r"not acknowledged within 0\.2 s"):
            await stand_in.slash("encode")
        (error,) = await wait_until(lambda: client.failures)  # type: ignore[attr-defined]
        assert (error.status, error.code) == (404, 10062)
    assert stand_in.messages() == []


async def test_a_token_ends(stand_in: StandIn) -> None:
    async def answer(interaction: discord.Interaction) -> None:
        await interaction.response.send_message("…")
        await interaction.edit_original_response(content="soon")
        stand_in.advance(901)
        await interaction.edit_original_response(content="too late")

    async with bot(stand_in, answer) as client:
        used = await stand_in.slash("encode")
        (error,) = await wait_until(lambda: client.failures)  # type: ignore[attr-defined]
        assert (error.status, error.code) == (401, 50027)
        assert used.text() == "soon"


async def test_attachments_options_and_followups_arrive(stand_in: StandIn) -> None:
    async def answer(interaction: discord.Interaction) -> None:
        await interaction.response.defer(ephemeral=True)
        file, crf = interaction.extras["file"], interaction.extras["crf"]
        await interaction.followup.send(f"{file.filename} {await file.read()!r} {crf}")
        await interaction.followup.send("and more")

    async with bot(stand_in, answer):
        used = await stand_in.slash("encode", {"file": ("clip.mkv", b"abc"), "crf": 18})
        await wait_until(lambda: len(used.followups) == 1)
    assert used.text() == "clip.mkv b'abc' 18\nand more"
    assert used.message().ephemeral
    with pytest.raises(AssertionError, match="has no option 'size'"):
        await stand_in.slash("encode", {"size": 1})
    with pytest.raises(AssertionError, match="no command 'decode'"):
        await stand_in.slash("decode")


async def test_a_session_is_resumed_with_what_was_missed(stand_in: StandIn) -> None:
    async def answer(interaction: discord.Interaction) -> None:
        await interaction.response.send_message("here")

    async with bot(stand_in, answer):
        await stand_in.drop_gateway()
        await wait_until(lambda: not stand_in.connected)
        used = await stand_in.slash("encode", wait=False)
        await stand_in.wait_connected()
        await asyncio.wait_for(used.acknowledged.wait(), 5)
        assert used.text() == "here"


async def test_too_many_edits_are_refused(stand_in: StandIn) -> None:
    headers = {"Authorization": f"Bot {TOKEN}"}
    async with ClientSession(headers=headers) as session:
        path = f"{stand_in.url}/channels/{CHANNEL_ID}/messages"
        async with session.post(path, json={"content": "…"}) as answer:
            message = await answer.json()
        statuses = []
        for number in range(6):
            json = {"content": str(number)}
            async with session.patch(f"{path}/{message['id']}", json=json) as answer:
                statuses.append(answer.status)
                left = answer.headers["X-RateLimit-Remaining"]
                body = await answer.json()
    assert statuses == [200] * 5 + [429]
    assert left == "0"
    assert 0 < body["retry_after"] <= 0.5
    assert len(stand_in.too_many) == 1


async def test_old_and_foreign_messages(stand_in: StandIn, client: discord.Client) -> None:
    stand_in.rules.old_edits = (0, 0.05)
    channel = client.get_partial_messageable(CHANNEL_ID)
    message = await channel.send("…")
    stand_in.advance(3601)
    with pytest.raises(discord.HTTPException) as refused:
        await message.edit(content="old")  # after five attempts of the library's own
    assert (refused.value.status, refused.value.code) == (429, 30046)
    assert len(stand_in.too_many) == 5
    foreign = stand_in.world.add(CHANNEL_ID, {"content": "hello"}, author_id=1)
    with pytest.raises(discord.Forbidden):
        await channel.get_partial_message(foreign.message_id).edit(content="mine")
    stand_in.delete(foreign)
    with pytest.raises(discord.NotFound):
        await channel.fetch_message(foreign.message_id)


async def test_a_wrong_token_does_not_log_in(stand_in: StandIn) -> None:
    async with discord.Client(intents=discord.Intents.none()) as client:
        with pytest.raises(discord.LoginFailure):
            await client.login("wrong")
    assert [call.status for call in stand_in.calls] == [401]
