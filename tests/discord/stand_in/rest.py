"""REST: what the routes do."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
    from aiohttp import web

Answer = tuple[int, Any]
Handler = Callable[["Rest", "Ask"], Answer]
_OK_EMPTY: Answer = (204, None)
_ROUTES: list[tuple[str, re.Pattern[str], str]] = []


@dataclass(frozen=True, slots=True)
class Ask:
    """A request: its body, its query, and what the path names."""

    body: Any
    query: Mapping[str, str]
    named: Mapping[str, str]

    @property
    def channel_id(self) -> int:
        return int(self.named["channel_id"])

    @property
    def message_id(self) -> int:
        return int(self.named["message_id"])

    @property
    def token(self) -> str:
        return self.named["token"]


def route(method: str, pattern: str) -> Callable[[Handler], Handler]:
    """Have a method of `Rest` answer a route."""
    expression = re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", pattern) + "$")

    def register(function: Handler) -> Handler:
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
        if method == "PATCH":
            return self._bucket("edits", found[1], rules.edits)
        return self._bucket("sends", found[1], rules.sends)

    def answer(self, request: web.Request, path: str, body: Any) -> Answer:
        """Answer a request; raises `Refusal`."""
        by_token = path.startswith(("/interactions/", "/webhooks/"))
        if not by_token and request.headers.get("Authorization") != f"Bot {TOKEN}":
            raise Refusal(401, 0, "401: Unauthorized")
        for method, pattern, name in _ROUTES:
            found = pattern.match(path)
            if found and method == request.method:
                ask = Ask(body, request.query, found.groupdict())
                answer: Answer = getattr(self, name)(ask)
                return answer
        raise Refusal(404, 0, f"404: Not Found: {request.method} {path}")

    @route("GET", "/users/@me")
    def me(self, _ask: Ask) -> Answer:
        return 200, user(BOT_ID) | {
            "verified": True, "mfa_enabled": False, "flags": 0, "email": None,
        }  # fmt: skip

    @route("GET", "/users/{user_id}")
    def user(self, ask: Ask) -> Answer:
        return 200, user(int(ask.named["user_id"]))

    @route("GET", "/guilds/{guild_id}/members/{user_id}")
    def member(self, ask: Ask) -> Answer:
        return 200, member(int(ask.named["user_id"]))

    @route("GET", "/gateway")
    @route("GET", "/gateway/bot")
    def gateway(self, _ask: Ask) -> Answer:
        limit = {"total": 1000, "remaining": 1000, "reset_after": 0, "max_concurrency": 1}
        return 200, {"url": self._gateway_url(), "shards": 1, "session_start_limit": limit}

    @route("GET", "/soundboard-default-sounds")
    @route("GET", "/guilds/{guild_id}/soundboard-sounds")
    def sounds(self, _ask: Ask) -> Answer:
        return 200, []

    @route("GET", "/oauth2/applications/@me")
    @route("GET", "/applications/@me")
    def application(self, _ask: Ask) -> Answer:
        return 200, {
            "id": str(BOT_ID), "name": "encode-bot", "icon": None, "description": "", "flags": 0,
            "bot_public": True, "bot_require_code_grant": False, "verify_key": "0" * 64,
            "owner": user(BOT_ID), "team": None, "summary": "", "rpc_origins": None,
            "integration_types_config": {},
        }  # fmt: skip

    @route("GET", "/applications/{application_id}/commands")
    @route("GET", "/applications/{application_id}/guilds/{guild_id}/commands")
    def commands(self, _ask: Ask) -> Answer:
        return 200, self._world.commands

    @route("PUT", "/applications/{application_id}/commands")
    @route("PUT", "/applications/{application_id}/guilds/{guild_id}/commands")
    def sync(self, ask: Ask) -> Answer:
        known = {command["name"]: command["id"] for command in self._world.commands}
        in_guild = "guild_id" in ask.named
        self._world.commands[:] = [self._command(each, known, in_guild) for each in ask.body]
        return 200, self._world.commands

    @route("GET", "/channels/{channel_id}")
    def channel(self, ask: Ask) -> Answer:
        self._check_channel(ask)
        return 200, self._world.channel(ask.channel_id)

    @route("POST", "/channels/{channel_id}/typing")
    def typing(self, ask: Ask) -> Answer:
        self._check_channel(ask)
        return _OK_EMPTY

    @route("GET", "/channels/{channel_id}/messages")
    def history(self, ask: Ask) -> Answer:
        self._check_channel(ask)
        shown = [each for each in self._world.in_channel(ask.channel_id) if not each.ephemeral]
        newest = shown[::-1][: int(ask.query.get("limit", 50))]
        return 200, [self._world.payload(each) for each in newest]

    @route("POST", "/channels/{channel_id}/messages")
    def send(self, ask: Ask) -> Answer:
        self._check_channel(ask)
        _check_body(ask.body, new=True)
        nonce = None if ask.body.get("nonce") is None else str(ask.body["nonce"])
        if ask.body.get("enforce_nonce") and nonce is not None:
            for sent in self._world.in_channel(ask.channel_id):
                if sent.nonce == nonce:
                    return 200, self._world.payload(sent)
        return 200, self._world.payload(self._world.add(ask.channel_id, ask.body, nonce=nonce))

    @route("GET", "/channels/{channel_id}/messages/{message_id}")
    def fetch(self, ask: Ask) -> Answer:
        return 200, self._world.payload(self._message(ask))

    @route("PATCH", "/channels/{channel_id}/messages/{message_id}")
    def edit(self, ask: Ask) -> Answer:
        message = self._message(ask)
        if message.author_id != BOT_ID:
            raise Refusal(403, 50005, "Cannot edit a message authored by another user")
        _check_body(ask.body, new=False)
        rules = self._world.rules
        if rules.now() - message.sent_at > rules.old_after:
            seconds = self._bucket("old", ask.named["channel_id"], rules.old_edits).take()
            if seconds is not None:
                text = "Maximum number of edits to messages older than 1 hour reached."
                raise Refusal(429, 30046, text, retry_after=seconds)
        message.change(ask.body, rules.now())
        message.edited_at = rules.now()
        return 200, self._world.payload(message)

    @route("DELETE", "/channels/{channel_id}/messages/{message_id}")
    def delete(self, ask: Ask) -> Answer:
        self._world.delete(self._message(ask).message_id)
        return _OK_EMPTY

    @route("POST", "/interactions/{interaction_id}/{token}/callback")
    def callback(self, ask: Ask) -> Answer:
        used = self._interaction(ask)
        used.acknowledge(ask.body)
        with_response = ask.query.get("with_response", "false").lower() in ("true", "1")
        return (200, used.response()) if with_response else _OK_EMPTY

    @route("POST", "/webhooks/{application_id}/{token}")
    def follow_up(self, ask: Ask) -> Answer:
        used = self._interaction(ask)
        used.check_token()
        return 200, self._world.payload(used.follow_up(ask.body))

    @route("GET", "/webhooks/{application_id}/{token}/messages/{which}")
    def fetch_answer(self, ask: Ask) -> Answer:
        return 200, self._world.payload(self._answer(ask))

    @route("PATCH", "/webhooks/{application_id}/{token}/messages/{which}")
    def edit_answer(self, ask: Ask) -> Answer:
        message = self._answer(ask)
        used = self._interaction(ask)
        if message is used.original:
            used.fill(ask.body)
        else:
            message.change(ask.body, self._world.rules.now())
        return 200, self._world.payload(message)

    @route("DELETE", "/webhooks/{application_id}/{token}/messages/{which}")
    def delete_answer(self, ask: Ask) -> Answer:
        self._world.delete(self._answer(ask).message_id)
        return _OK_EMPTY

    def _bucket(self, name: str, channel_id: str, limits: tuple[int, float]) -> Bucket:
        bucket = self._buckets.setdefault((name, channel_id), Bucket(f"{name}-of-a-channel"))
        bucket.limit, bucket.per = limits
        return bucket

    def _command(
        self, given: dict[str, Any], known: dict[str, Any], in_guild: bool
    ) -> dict[str, Any]:
        return {
            "id": known.get(given["name"], str(self._world.snowflake())),
            "application_id": str(BOT_ID), "type": 1, "version": "1", "description": "",
            "default_member_permissions": None, "options": [], **given,
            **({"guild_id": str(GUILD_ID)} if in_guild else {}),
        }  # fmt: skip

    def _check_channel(self, ask: Ask) -> None:
        if ask.channel_id not in self._world.channels:
            raise unknown("Channel", 10003)

    def _message(self, ask: Ask) -> Message:
        self._check_channel(ask)
        message = self._world.messages.get(ask.message_id)
        # What one person alone sees cannot be reached without its token.
        if message is None or message.channel_id != ask.channel_id or message.ephemeral:
            raise unknown("Message", 10008)
        return message

    def _interaction(self, ask: Ask) -> Used:
        used = next((each for each in self._used if each.token == ask.token), None)
        if used is None:
            raise unknown("Webhook", 10015)
        return used

    def _answer(self, ask: Ask) -> Message:
        used = self._interaction(ask)
        used.check_token()
        mine = [each for each in (used.original, *used.followups) if each is not None]
        for message in mine:
            names = {str(message.message_id)} | (
                {"@original"} if message is used.original else set()
            )
            if ask.named["which"] in names and message.message_id in self._world.messages:
                return message
        raise unknown("Message", 10008)


def _check_body(body: dict[str, Any], *, new: bool) -> None:
    content = body.get("content") or ""
    if len(content) > 2000:
        raise Refusal(400, 50035, "Invalid Form Body")
    if new and not (content or body.get("embeds") or body.get("components")):
        raise Refusal(400, 50006, "Cannot send an empty message")
