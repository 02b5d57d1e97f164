"""What users do, and how the bot answers."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.discord.stand_in.calls import Refusal, unknown
from tests.discord.stand_in.world import (
    BOT_ID,
    EPHEMERAL,
    GUILD_ID,
    Message,
    World,
    member,
    user,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND, COMPONENT, AUTOCOMPLETE, MODAL = 2, 3, 4, 5
MESSAGE, DEFERRED, DEFERRED_UPDATE, UPDATE, CHOICES = 4, 5, 6, 7, 8
_TYPES = {str: 3, int: 4, bool: 5, float: 10}
_ATTACHMENT = 11


@dataclass(slots=True)
class Used:
    """One interaction, from the user's side.

    Attributes:
        at: when it was made, by the clock of the stand-in.
        acknowledged: set when the bot has answered in time.
        seconds: how long that took.
        original: the message that answers it.
        followups: the others.
    """

    world: World
    interaction_id: int
    token: str
    kind: int
    user_id: int
    channel_id: int
    at: float
    source: Message | None = None
    acknowledged: asyncio.Event = field(default_factory=asyncio.Event)
    seconds: float | None = None
    answer: int | None = None
    loading: bool = False
    original: Message | None = None
    followups: list[Message] = field(default_factory=list)
    choices: list[dict[str, Any]] = field(default_factory=list)
    modal: dict[str, Any] | None = None

    def message(self) -> Message:
        """The message that answers it; raises AssertionError when there is none."""
        assert self.original is not None, "the interaction has no answer"
        return self.original

    def text(self) -> str:
        """All that the bot said to it, also what it said later."""
        said = [each for each in (self.original, *self.followups) if each is not None]
        return "\n".join(each.content for each in said)

    def metadata(self) -> dict[str, Any]:
        return {
            "id": str(self.interaction_id), "type": self.kind, "user": user(self.user_id),
            "authorizing_integration_owners": {},
        }  # fmt: skip

    def payload(self, data: dict[str, Any]) -> dict[str, Any]:
        """The event INTERACTION_CREATE."""
        world = self.world
        event = {
            "id": str(self.interaction_id), "application_id": str(BOT_ID), "type": self.kind,
            "data": data, "guild_id": str(GUILD_ID), "channel_id": str(self.channel_id),
            "channel": world.channel(self.channel_id), "member": member(self.user_id) | {
                "permissions": str(world.permissions.get(self.user_id, 0))
            },
            "token": self.token, "version": 1, "app_permissions": "8", "locale": "en-US",
            "guild_locale": "en-US", "entitlements": [], "authorizing_integration_owners": {},
            "context": 0, "attachment_size_limit": 10_485_760,
            "guild": {"id": str(GUILD_ID), "locale": "en-US", "features": []},
        }  # fmt: skip
        if self.source is not None:
            event["message"] = world.payload(self.source)
        return event

    def acknowledge(self, body: dict[str, Any]) -> None:
        """The bot's first answer."""
        if self.answer is not None:
            raise Refusal(400, 40060, "Interaction has already been acknowledged.")
        seconds = self.world.rules.now() - self.at
        if seconds > self.world.rules.acknowledge_within:
            raise unknown("interaction", 10062)
        self.seconds, self.answer = seconds, int(body["type"])
        data = body.get("data") or {}
        if self.answer in (MESSAGE, DEFERRED):
            self.loading = self.answer == DEFERRED
            self.original = self._add(data)
        elif self.answer == UPDATE:
            assert self.source is not None
            self.source.change(data, self.world.rules.now())
            self.source.edited_at = self.world.rules.now()
        elif self.answer == CHOICES:
            self.choices = data.get("choices", [])
        elif self.answer != DEFERRED_UPDATE:
            self.modal = data
        if self.answer in (UPDATE, DEFERRED_UPDATE):
            self.original = self.source
        self.acknowledged.set()

    def check_token(self) -> None:
        """Raise when nothing can be said with the token."""
        if self.world.rules.now() - self.at > self.world.rules.token_lifetime:
            raise Refusal(401, 50027, "Invalid Webhook Token")
        if self.answer is None:
            raise unknown("Webhook", 10015)

    def follow_up(self, body: dict[str, Any]) -> Message:
        """Another message; the first after a deferral fills the deferred one."""
        if self.loading and self.original is not None:
            self.fill(body)
            return self.original
        message = self._add(body)
        self.followups.append(message)
        return message

    def fill(self, body: dict[str, Any]) -> None:
        """Change the original message."""
        assert self.original is not None
        self.loading = False
        self.original.change(body, self.world.rules.now())
        self.original.edited_at = self.world.rules.now()

    def response(self) -> dict[str, Any]:
        """What `with_response=true` asks for."""
        found: dict[str, Any] = {"id": str(self.interaction_id), "type": self.kind}
        answer: dict[str, Any] = {"interaction": found}
        if self.original is not None:
            found |= {
                "response_message_id": str(self.original.message_id),
                "response_message_loading": self.loading,
                "response_message_ephemeral": self.original.ephemeral,
            }
            answer["resource"] = {
                "type": self.answer, "message": self.world.payload(self.original),
            }  # fmt: skip
        return answer

    def _add(self, body: dict[str, Any]) -> Message:
        return self.world.add(
            self.channel_id,
            {**body, "flags": (body.get("flags") or 0) & EPHEMERAL},
            interaction=self.metadata(),
        )


def new_interaction(
    world: World, kind: int, user_id: int, channel_id: int, source: Message | None = None
) -> Used:
    return Used(
        world, world.snowflake(), secrets.token_urlsafe(24), kind, user_id, channel_id,
        world.rules.now(), source,
    )  # fmt: skip


def command_data(
    world: World, url: str, name: str, options: Mapping[str, object], focused: str | None = None
) -> dict[str, Any]:
    """What `/name option:value …` sends; bytes as a value are an attachment."""
    command = next((each for each in world.commands if each["name"] == name), None)
    if command is None:
        known = ", ".join(each["name"] for each in world.commands) or "none"
        message = f"the bot has no command {name!r}; it registered: {known}"
        raise AssertionError(message)
    declared = {each["name"]: each["type"] for each in command.get("options", [])}
    data: dict[str, Any] = {"id": str(command["id"]), "name": name, "type": 1, "options": []}
    for option, value in options.items():
        if option not in declared:
            message = f"/{name} has no option {option!r}; it has {', '.join(declared)}"
            raise AssertionError(message)
        given: dict[str, Any] = {"name": option, "type": declared[option], "value": value}
        if declared[option] == _ATTACHMENT:
            file, content = value if isinstance(value, tuple) else ("clip.mp4", value)
            attachment_id = str(world.snowflake())
            path = f"/attachments/{attachment_id}/{file}"
            world.files[path] = content
            data["resolved"] = {"attachments": {attachment_id: {
                "id": attachment_id, "filename": file, "size": len(content), "url": url + path,
                "proxy_url": url + path, "content_type": "video/mp4", "ephemeral": True,
            }}}  # fmt: skip
            given["value"] = attachment_id
        if option == focused:
            given["focused"] = True
        data["options"].append(given)
    return data
