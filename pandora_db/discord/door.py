"""The calls to whichever Discord library, by what all of them have."""

from __future__ import annotations

import hashlib
import inspect
from typing import TYPE_CHECKING, Any, cast

from pandora_db.errors import InvalidInput

if TYPE_CHECKING:
    from pandora_db.discord.message import MessageRef

_CALLED = ("get_channel", "get_partial_messageable", "fetch_channel")
_CHANNELS = 1000


class Door:
    """Edits, sends and fetches messages through a client or bot."""

    def __init__(self, client: object) -> None:
        if not all(hasattr(client, name) for name in _CALLED):
            raise InvalidInput(
                f"client is a {type(client).__name__}; expected a Client or Bot of discord.py, "
                "nextcord, py-cord or disnake",
                field="client",
            )
        self._client = cast("Any", client)
        self._fetched: dict[int, Any] = {}

    async def edit(self, ref: MessageRef, fields: dict[str, Any]) -> None:
        """Edit a message."""
        await (await self._message(ref)).edit(**fields)

    async def send(self, ref: MessageRef, fields: dict[str, Any], nonce: str) -> tuple[int, bool]:
        """Send a new message into the channel of `ref`; its id, and whether it shows the fields.

        Sent again with the same nonce within some minutes, it is the same message, and shows what
        it showed before.
        """
        channel = self._channel(ref.channel_id)
        given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
        # py-cord alone has to be asked for it.
        if "enforce_nonce" in inspect.signature(channel.send).parameters:
            given["enforce_nonce"] = True
        message = await channel.send(**given, nonce=nonce)
        return int(message.id), same(message, given)

    async def fetch(self, ref: MessageRef) -> Any:  # noqa: ANN401 - of whichever library
        """The message as Discord has it."""
        return await (await self._message(ref)).fetch()

    async def _message(self, ref: MessageRef) -> Any:  # noqa: ANN401 - as above
        try:
            return self._channel(ref.channel_id).get_partial_message(ref.message_id)
        except TypeError:
            # disnake has to know the type of the channel.
            if len(self._fetched) >= _CHANNELS:
                self._fetched.clear()
            channel = await self._client.fetch_channel(ref.channel_id)
            self._fetched[ref.channel_id] = channel
            return channel.get_partial_message(ref.message_id)

    def _channel(self, channel_id: int) -> Any:  # noqa: ANN401 - as above
        """The channel without asking Discord: as the client knows it, or by its id alone."""
        known = self._client.get_channel(channel_id) or self._fetched.get(channel_id)
        if hasattr(known, "get_partial_message"):
            return known
        return self._client.get_partial_messageable(channel_id)


def nonce_of(job_id: int, ref: MessageRef) -> str:
    """The same for each attempt to replace one message, also after a restart; 25 characters."""
    facts = f"{job_id}:{ref.channel_id}:{ref.message_id}".encode()
    return "p" + hashlib.sha256(facts).hexdigest()[:24]


def same(message: Any, fields: dict[str, Any]) -> bool:  # noqa: ANN401 - as above
    """Whether a fetched message shows `fields`, as far as text can tell.

    Buttons and pictures are not compared.
    """
    if "content" in fields and (message.content or "") != (fields["content"] or "").strip():
        return False
    if "embed" in fields or "embeds" in fields:
        wanted: list[Any] = [fields["embed"]] if fields.get("embed") else fields.get("embeds") or []
        return [_words(embed) for embed in message.embeds] == [_words(embed) for embed in wanted]
    return True


def _words(embed: Any) -> tuple[Any, ...]:  # noqa: ANN401 - as above
    lines = tuple((field.name, field.value) for field in embed.fields)
    return embed.title or None, embed.description or None, lines
