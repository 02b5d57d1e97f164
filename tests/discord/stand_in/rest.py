"""REST: what the routes do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tests.discord.stand_in.calls import Refusal, unknown
from tests.discord.stand_in.interactions import Used
from tests.discord.stand_in.limits import Bucket
from tests.discord.stand_in.world import (
    BOT_ID,
    GUILD_ID,
    TOKEN,
    Message,
    World,
    member,
    user,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

Answer = tuple[int, Any]
_ROUTES: list[tuple[str, re.Pattern[str], str]] = []


def route(method: str, pattern: str) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Have a method of `Rest` answer a route; `{name}` is given as an argument."""
    expression = re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", pattern) + "$")

    def register(function: Callable[..., Answer]) -> Callable[..., Answer]:
        _ROUTES.append((method, expression, function.__name__))
        return function

    return register


class Rest:
    """The routes, on a world."""

    def __init__(self, world: World, used: list[Used], gateway_url: Callable[[], str]) -> None:
        self._world = world
        self._used = used
        self._gateway_url = gateway_url
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def bucket(self, method: str, path: str) -> Bucket | None:
        """What a request counts into; edits and new messages are counted by channel."""
        found = re.match(r"/channels/(\d+)/messages(/\d+)?$", path)
        if found is None or method not in ("PATCH", "POST"):
            return None
        rules = self._world.rules
        limit, per = rules.edits if method == "PATCH" else rules.sends
        name = "edits" if method == "PATCH" else "sends"
        key = (name, found[1])
        return self._buckets.setdefault(key, Bucket(f"{name}-of-a-channel", limit, per))

    def answer(self, request: web.Request, path: str, body: Any) -> Answer:
        """Answer a request; raises `Refusal`."""
        by_token = path.startswith(("/interactions/", "/webhooks/"))
        if not by_token and request.headers.get("Authorization") != f"Bot {TOKEN}":
            raise Refusal(401, 0, "401: Unauthorized")
        for method, pattern, name in _ROUTES:
            found = pattern.match(path)
            if found and method == request.method:
                facts = {key: _number(value) for key, value in found.groupdict().items()}
                answer: Answer = getattr(self, name)(body, request.query, **facts)
                return answer
        raise Refusal(404, 0, f"404: Not Found: {request.method} {path}")

    @route("GET", "/users/@me")
    def me(self, body: Any, query: Any) -> Answer:
        return 200, user(BOT_ID) | {
            "verified": True,
            "mfa_enabled": False,
            "flags": 0,
            "email": None,
        }

    @route("GET", "/users/{user_id}")
    def user(self, body: Any, query: Any, user_id: int) -> Answer:
        return 200, user(user_id)

    @route("GET", "/guilds/{guild_id}/members/{user_id}")
    def member(self, body: Any, query: Any, guild_id: int, user_id: int) -> Answer:
        return 200, member(user_id)

    @route("GET", "/gateway/bot")
    def gateway(self, body: Any, query: Any) -> Answer:
        limit = {"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 1}
        return 200, {"url": self._gateway_url(), "shards": 1, "session_start_limit": limit}

    @route("GET", "/oauth2/applications/@me")
    @route("GET", "/applications/@me")
    def application(self, body: Any, query: Any) -> Answer:
        return 200, {
            "id": str(BOT_ID), "name": "encode-bot", "icon": None, "description": "", "flags": 0,
            "bot_public": True, "bot_require_code_grant": False, "verify_key": "0" * 64,
            "owner": user(BOT_ID), "team": None, "summary": "", "rpc_origins": None,
            "integration_types_config": {},
        }  # fmt: skip

    @route("GET", "/applications/{application_id}/commands")
    @route("GET", "/applications/{application_id}/guilds/{guild_id}/commands")
    def commands(
        self, body: Any, query: Any, application_id: int, guild_id: int | None = None
    ) -> Answer:
        return 200, self._world.commands

    @route("PUT", "/applications/{application_id}/commands")
    @route("PUT", "/applications/{application_id}/guilds/{guild_id}/commands")
    def sync(
        self, body: Any, query: Any, application_id: int, guild_id: int | None = None
    ) -> Answer:
        known = {command["name"]: command["id"] for command in self._world.commands}
        self._world.commands[:] = [self._command(each, known, guild_id) for each in body]
        return 200, self._world.commands

    @route("GET", "/channels/{channel_id}")
    def channel(self, body: Any, query: Any, channel_id: int) -> Answer:
        self._check_channel(channel_id)
        return 200, self._world.channel(channel_id)

    @route("POST", "/channels/{channel_id}/typing")
    def typing(self, body: Any, query: Any, channel_id: int) -> Answer:
        self._check_channel(channel_id)
        return 204, None

    @route("GET", "/channels/{channel_id}/messages")
    def history(self, body: Any, query: Any, channel_id: int) -> Answer:
        self._check_channel(channel_id)
        shown = [each for each in self._world.in_channel(channel_id) if not each.ephemeral]
        newest = shown[::-1][: int(query.get("limit", 50))]
        return 200, [self._world.payload(each) for each in newest]

    @route("POST", "/channels/{channel_id}/messages")
    def send(self, body: Any, query: Any, channel_id: int) -> Answer:
        self._check_channel(channel_id)
        _check_body(body, new=True)
        nonce = body.get("nonce")
        if body.get("enforce_nonce") and nonce is not None:
            for sent in self._world.in_channel(channel_id):
                if sent.nonce == str(nonce):
                    return 200, self._world.payload(sent)
        message = self._world.add(channel_id, body, nonce=None if nonce is None else str(nonce))
        return 200, self._world.payload(message)

    @route("GET", "/channels/{channel_id}/messages/{message_id}")
    def fetch(self, body: Any, query: Any, channel_id: int, message_id: int) -> Answer:
        return 200, self._world.payload(self._message(channel_id, message_id))

    @route("PATCH", "/channels/{channel_id}/messages/{message_id}")
    def edit(self, body: Any, query: Any, channel_id: int, message_id: int) -> Answer:
        message = self._message(channel_id, message_id)
        if message.author_id != BOT_ID:
            raise Refusal(403, 50005, "Cannot edit a message authored by another user")
        _check_body(body, new=False)
        rules = self._world.rules
        if rules.now() - message.sent_at > rules.old_after:
            limit, per = rules.old_edits
            key = ("old", str(channel_id))
            seconds = self._buckets.setdefault(key, Bucket("old", limit, per)).take()
            if seconds is not None:
                text = "Maximum number of edits to messages older than 1 hour reached."
                raise Refusal(429, 30046, text, retry_after=seconds)
        message.change(body, rules.now())
        message.edited_at = rules.now()
        return 200, self._world.payload(message)

    @route("DELETE", "/channels/{channel_id}/messages/{message_id}")
    def delete(self, body: Any, query: Any, channel_id: int, message_id: int) -> Answer:
        message = self._message(channel_id, message_id)
        self._world.deleted[message.message_id] = self._world.messages.pop(message.message_id)
        return 204, None

    @route("POST", "/interactions/{interaction_id}/{token}/callback")
    def callback(self, body: Any, query: Any, interaction_id: int, token: str) -> Answer:
        used = self._interaction(token)
        used.acknowledge(body)
        with_response = query.get("with_response", "false").lower() in ("true", "1")
        return (200, used.response()) if with_response else (204, None)

    @route("POST", "/webhooks/{application_id}/{token}")
    def follow_up(self, body: Any, query: Any, application_id: int, token: str) -> Answer:
        used = self._interaction(token)
        used.check_token()
        return 200, self._world.payload(used.follow_up(body))

    @route("GET", "/webhooks/{application_id}/{token}/messages/{which}")
    def fetch_answer(
        self, body: Any, query: Any, application_id: int, token: str, which: int | str
    ) -> Answer:
        return 200, self._world.payload(self._answer(token, which))

    @route("PATCH", "/webhooks/{application_id}/{token}/messages/{which}")
    def edit_answer(
        self, body: Any, query: Any, application_id: int, token: str, which: int | str
    ) -> Answer:
        message = self._answer(token, which)
        used = self._interaction(token)
        if message is used.original:
            used.fill(body)
        else:
            message.change(body, self._world.rules.now())
        return 200, self._world.payload(message)

    @route("DELETE", "/webhooks/{application_id}/{token}/messages/{which}")
    def delete_answer(
        self, body: Any, query: Any, application_id: int, token: str, which: int | str
    ) -> Answer:
        message = self._answer(token, which)
        self._world.deleted[message.message_id] = self._world.messages.pop(message.message_id)
        return 204, None

    def _command(
        self, given: dict[str, Any], known: dict[str, Any], guild_id: int | None
    ) -> dict[str, Any]:
        return {
            "id": known.get(given["name"], str(self._world.snowflake())),
            "application_id": str(BOT_ID), "type": 1, "version": "1", "description": "",
            "default_member_permissions": None, "options": [], **given,
            **({"guild_id": str(GUILD_ID)} if guild_id else {}),
        }  # fmt: skip

    def _check_channel(self, channel_id: int) -> None:
        if channel_id not in self._world.channels:
            raise unknown("Channel", 10003)

    def _message(self, channel_id: int, message_id: int) -> Message:
        self._check_channel(channel_id)
        message = self._world.messages.get(message_id)
        # What one person alone sees cannot be reached without its token.
        if message is None or message.channel_id != channel_id or message.ephemeral:
            raise unknown("Message", 10008)
        return message

    def _interaction(self, token: str) -> Used:
        used = next((each for each in self._used if each.token == token), None)
        if used is None:
            raise unknown("Webhook", 10015)
        return used

    def _answer(self, token: str, which: int | str) -> Message:
        used = self._interaction(token)
        used.check_token()
        mine = [each for each in (used.original, *used.followups) if each is not None]
        for message in mine:
            found = message.message_id if isinstance(which, int) else "@original"
            if found == which and message.message_id in self._world.messages:
                return message
        raise unknown("Message", 10008)


def _number(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _check_body(body: dict[str, Any], *, new: bool) -> None:
    content = body.get("content") or ""
    if len(content) > 2000:
        raise Refusal(400, 50035, "Invalid Form Body")
    if new and not (content or body.get("embeds") or body.get("components")):
        raise Refusal(400, 50006, "Cannot send an empty message")
