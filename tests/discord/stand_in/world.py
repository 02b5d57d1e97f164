"""What there is: a guild, its channels, its users, their messages, and the rules for all of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

TOKEN = "MTAw.stand.in"  # noqa: S105 - of nobody
BOT_ID, GUILD_ID, USER_ID, OWNER_ID, CHANNEL_ID, OTHER_CHANNEL_ID = 100, 200, 301, 302, 401, 402
_EPOCH = 1_420_070_400_000
EPHEMERAL = 64


@dataclass(slots=True)
class Rules:
    """The limits; times in seconds. `skew` is how far its clock is ahead."""

    acknowledge_within: float = 3.0
    token_lifetime: float = 900.0
    edits: tuple[int, float] = (5, 5.0)
    sends: tuple[int, float] = (5, 5.0)
    old_after: float = 3600.0
    old_edits: tuple[int, float] = (3, 20.0)
    skew: float = 0.0

    def now(self) -> float:
        return time.time() + self.skew


@dataclass(slots=True)
class Message:
    """A message as it is now, and every content that it had."""

    message_id: int
    channel_id: int
    sent_at: float
    author_id: int = BOT_ID
    content: str = ""
    embeds: list[dict[str, Any]] = field(default_factory=list)
    components: list[dict[str, Any]] = field(default_factory=list)
    flags: int = 0
    edited_at: float | None = None
    nonce: str | None = None
    interaction: dict[str, Any] | None = None
    versions: list[tuple[float, str]] = field(default_factory=list)
    files: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def ephemeral(self) -> bool:
        return bool(self.flags & EPHEMERAL)

    def change(self, body: dict[str, Any], at: float) -> None:
        self.content = (body["content"] or "") if "content" in body else self.content
        self.embeds = (body["embeds"] or []) if "embeds" in body else self.embeds
        self.components = (body["components"] or []) if "components" in body else self.components
        self.flags = (
            (body["flags"] or 0) | (self.flags & EPHEMERAL) if "flags" in body else self.flags
        )
        self.versions.append((at, self.content))

    def buttons(self) -> list[dict[str, Any]]:
        """Its buttons and menus, in order."""
        return [part for row in self.components for part in row.get("components", [row])]


def user(user_id: int) -> dict[str, Any]:
    names = {BOT_ID: "encode-bot", USER_ID: "mika", OWNER_ID: "noor"}
    return {
        "id": str(user_id), "username": names.get(user_id, f"user{user_id}"), "avatar": None,
        "discriminator": "0", "global_name": None, "bot": user_id == BOT_ID, "public_flags": 0,
    }  # fmt: skip


def member(user_id: int) -> dict[str, Any]:
    return {
        "user": user(user_id), "roles": [], "joined_at": "2024-01-01T00:00:00+00:00", "nick": None,
        "deaf": False, "mute": False, "flags": 0, "permissions": "8", "avatar": None,
    }  # fmt: skip


class World:
    """The guild and everything in it; it outlives every bot that connects."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.channels: dict[int, str] = {CHANNEL_ID: "encodes", OTHER_CHANNEL_ID: "general"}
        self.messages: dict[int, Message] = {}
        self.deleted: dict[int, Message] = {}
        self.commands: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.permissions: dict[int, int] = {}  # of users, in every channel
        self._numbers = count()

    def snowflake(self) -> int:
        """A new id of now."""
        return ((int(self.rules.now() * 1000) - _EPOCH) << 22) | (next(self._numbers) & 0x3FFFFF)

    def add(self, channel_id: int, body: dict[str, Any], **facts: Any) -> Message:
        """A new message."""
        now = self.rules.now()
        message = Message(self.snowflake(), channel_id, now, **facts)
        message.files = list(body.get("files", ()))
        message.change(body, now)
        self.messages[message.message_id] = message
        return message

    def delete(self, message_id: int) -> None:
        self.deleted[message_id] = self.messages.pop(message_id)

    def in_channel(self, channel_id: int) -> list[Message]:
        """Its messages, oldest first, those too that one person alone sees."""
        found = (each for each in self.messages.values() if each.channel_id == channel_id)
        return sorted(found, key=lambda each: each.message_id)

    def channel(self, channel_id: int) -> dict[str, Any]:
        return {
            "id": str(channel_id), "type": 0, "guild_id": str(GUILD_ID), "position": 0,
            "name": self.channels[channel_id], "permission_overwrites": [], "nsfw": False,
            "topic": None, "rate_limit_per_user": 0, "parent_id": None, "permissions": "8",
        }  # fmt: skip

    def guild(self) -> dict[str, Any]:
        everyone = {
            "id": str(GUILD_ID), "name": "@everyone", "permissions": "8", "color": 0,
            "hoist": False, "managed": False, "mentionable": False, "position": 0, "flags": 0,
            "colors": {"primary_color": 0, "secondary_color": None, "tertiary_color": None},
        }  # fmt: skip
        return {
            "id": str(GUILD_ID), "name": "encoders", "owner_id": str(OWNER_ID),
            "unavailable": False, "roles": [everyone],
            "channels": [self.channel(each) for each in self.channels],
            "members": [member(each) for each in (BOT_ID, USER_ID, OWNER_ID)], "member_count": 3,
            "emojis": [], "stickers": [], "features": [], "threads": [], "presences": [],
            "voice_states": [], "stage_instances": [], "guild_scheduled_events": [],
            "preferred_locale": "en-US", "verification_level": 0, "nsfw_level": 0, "mfa_level": 0,
            "default_message_notifications": 0, "explicit_content_filter": 0, "afk_timeout": 0,
            "afk_channel_id": None, "application_id": None, "premium_tier": 0, "large": False,
            "joined_at": "2024-01-01T00:00:00+00:00", "icon": None, "description": None,
            "system_channel_id": None, "system_channel_flags": 0, "rules_channel_id": None,
            "public_updates_channel_id": None, "splash": None, "banner": None, "lazy": False,
            "discovery_splash": None, "vanity_url_code": None, "soundboard_sounds": [],
            "premium_progress_bar_enabled": False, "max_members": 1000, "region": "europe",
            "premium_subscription_count": 0,
        }  # fmt: skip

    def payload(self, message: Message) -> dict[str, Any]:
        shown = {
            "id": str(message.message_id), "channel_id": str(message.channel_id), "type": 0,
            "author": user(message.author_id), "content": message.content, "tts": False,
            "timestamp": _iso(message.sent_at), "mention_everyone": False, "mentions": [],
            "edited_timestamp": message.edited_at and _iso(message.edited_at),
            "attachments": [_attachment(message, number) for number in range(len(message.files))],
            "mention_roles": [], "embeds": message.embeds, "components": message.components,
            "pinned": False, "flags": message.flags,
        }  # fmt: skip
        if message.nonce is not None:
            shown["nonce"] = message.nonce
        if message.interaction is not None:
            legacy = {name: message.interaction[name] for name in ("id", "type", "user")}
            shown |= {"interaction_metadata": message.interaction,
                      "interaction": legacy | {"name": "encode"}, "type": 20,
                      "application_id": str(BOT_ID), "webhook_id": str(BOT_ID)}  # fmt: skip
        return shown


def _attachment(message: Message, number: int) -> dict[str, Any]:
    name, body = message.files[number]
    url = f"https://cdn.example/{message.message_id}/{number}/{name}"
    found = {"id": str(message.message_id + number), "filename": name, "size": len(body)}
    return found | {"url": url, "proxy_url": url}


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
