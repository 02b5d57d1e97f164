"""The server: REST under /api/v10, the gateway, and the users."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

from aiohttp import web

from tests.discord.stand_in.calls import Call, Refusal
from tests.discord.stand_in.gateway import Gateway
from tests.discord.stand_in.interactions import (
    AUTOCOMPLETE,
    COMMAND,
    COMPONENT,
    Used,
    command_data,
    new_interaction,
)
from tests.discord.stand_in.rest import Rest
from tests.discord.stand_in.world import CHANNEL_ID, USER_ID, Message, Rules, World

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

API = "/api/v10"


class StandIn:
    """Discord, for one bot.

    Attributes:
        rules: the limits; they may be changed at any time.
        world: guild, channels, messages, commands.
        calls: every request, in the order in which they were answered.
        failures: what the next requests of the bot are answered with, instead; see `fail`.
    """

    def __init__(self, rules: Rules | None = None, *, port: int = 0) -> None:
        self.rules = rules or Rules()
        self.world = World(self.rules)
        self.calls: list[Call] = []
        self.used: list[Used] = []
        self.failures: list[tuple[str, Refusal]] = []
        self._port = port
        self._gateway = Gateway(self.world, lambda: self.gateway_url)
        self._rest = Rest(self.world, self.used, lambda: self.gateway_url)
        self._runner: web.AppRunner | None = None
        self._held = asyncio.Event()
        self._held.set()
        self._mute = ""
        self._heard = asyncio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/gateway/", self._gateway.connect)
        app.router.add_get("/attachments/{tail:.*}", self._file)
        app.router.add_route("*", API + "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._runner is not None
        self.release()
        for session in self._gateway.sessions:
            if session.socket is not None:
                await session.socket.close(code=1001)
        await self._runner.cleanup()

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        """What a library takes as the base of REST."""
        return self.origin + API

    @property
    def gateway_url(self) -> str:
        return f"ws://127.0.0.1:{self._port}/gateway/"

    # What the tests look at.

    @property
    def too_many(self) -> list[Call]:
        """The requests that met a rate limit, error 30046 included."""
        return [call for call in self.calls if call.status == 429]

    def edits(self, message_id: int | None = None) -> list[Call]:
        """The successful edits of messages by the bot."""
        return [
            call
            for call in self.calls
            if call.is_edit and call.status == 200 and message_id in (None, call.message_id)
        ]

    def messages(self, channel_id: int = CHANNEL_ID) -> list[Message]:
        """What stands in a channel, oldest first."""
        return self.world.in_channel(channel_id)

    @property
    def connected(self) -> bool:
        """Whether a bot is connected to the gateway."""
        return self._gateway.session is not None

    async def wait_connected(self, timeout: float = 20.0) -> None:
        """Wait until a bot is connected to the gateway."""
        async with asyncio.timeout(timeout):
            await self._gateway.connected.wait()

    # What goes wrong.

    def fail(self, path: str, status: int, code: int = 0, *, times: int = 1, **extra: Any) -> None:
        """Answer the next `times` requests whose "METHOD /path" holds `path` with an error."""
        refusal = Refusal(status, code, "said the test", **extra)
        self.failures.extend([(path, refusal)] * times)

    def hold(self) -> None:
        """Answer nobody, until `release`."""
        self._held.clear()

    def mute(self, path: str) -> None:
        """Do what requests ask whose "METHOD /path" holds `path`, and do not answer them."""
        self._mute = path
        self._heard.clear()

    def release(self) -> None:
        self._held.set()
        self._mute = ""
        self._heard.set()

    async def drop_gateway(self) -> None:
        """Cut the bot's connection to the gateway."""
        await self._gateway.drop()

    def delete(self, message: Message | int) -> None:
        """Somebody deletes a message."""
        message_id = message if isinstance(message, int) else message.message_id
        self.world.delete(message_id)

    def advance(self, seconds: float) -> None:
        """Let time pass for tokens and the age of messages; rate limits keep to real time."""
        self.rules.skew += seconds

    # What users do.

    async def slash(
        self,
        name: str,
        options: Mapping[str, object] | None = None,
        *,
        user_id: int = USER_ID,
        channel_id: int = CHANNEL_ID,
        wait: bool = True,
    ) -> Used:
        """Use a command; options are named, `bytes` or (name, bytes) is an attachment.

        Raises:
            AssertionError: the bot has no such command, or did not acknowledge in time.
        """
        data = command_data(self.world, self.origin, name, options or {})
        return await self._use(COMMAND, data, user_id, channel_id, None, wait=wait)

    async def complete(
        self,
        name: str,
        option: str,
        text: str,
        *,
        user_id: int = USER_ID,
        channel_id: int = CHANNEL_ID,
    ) -> list[dict[str, Any]]:
        """Type into an option that completes; its choices."""
        data = command_data(self.world, self.origin, name, {option: text}, focused=option)
        used = await self._use(AUTOCOMPLETE, data, user_id, channel_id, None, wait=True)
        return used.choices

    async def click(
        self,
        message: Message | int,
        custom_id: str,
        *,
        values: list[str] | None = None,
        user_id: int = USER_ID,
        wait: bool = True,
    ) -> Used:
        """Press a button of a message, or choose from a menu.

        Raises:
            AssertionError: the message has no such part, or the bot did not acknowledge in time.
        """
        shown = self.world.messages[message] if isinstance(message, int) else message
        parts = {part.get("custom_id"): part for part in shown.buttons()}
        assert custom_id in parts, f"no part {custom_id!r}; it has {list(parts)}"
        assert not parts[custom_id].get("disabled"), f"{custom_id!r} is disabled"
        data: dict[str, Any] = {"custom_id": custom_id, "component_type": parts[custom_id]["type"]}
        if values is not None:
            data["values"] = values
        return await self._use(COMPONENT, data, user_id, shown.channel_id, shown, wait=wait)

    async def _use(
        self,
        kind: int,
        data: dict[str, Any],
        user_id: int,
        channel_id: int,
        source: Message | None,
        *,
        wait: bool,
    ) -> Used:
        used = new_interaction(self.world, kind, user_id, channel_id, source)
        self.used.append(used)
        await self._gateway.dispatch("INTERACTION_CREATE", used.payload(data))
        if wait:
            seconds = self.rules.acknowledge_within
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds + 0.5):
                    await used.acknowledged.wait()
            assert used.acknowledged.is_set(), f"not acknowledged within {seconds} s"
        return used

    # Serving.

    async def _file(self, request: web.Request) -> web.Response:
        content = self.world.files.get(request.path)
        if content is None:
            return web.Response(status=404)
        return web.Response(body=content, content_type="application/octet-stream")

    async def _answer(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix(API)
        body: Any = await _body(request)
        await self._held.wait()
        headers: dict[str, str] = {"Via": "1.1 stand-in"}
        code = 0
        try:
            self._fail_if_told(f"{request.method} {path}")
            bucket = self._rest.bucket(request.method, path)
            if bucket is not None:
                bucket.count(headers)
            status, answer = self._rest.answer(request, path, body)
        except Refusal as refusal:
            status, code = refusal.status, refusal.code
            answer = {"code": code, "message": refusal.message}
            if refusal.retry_after is not None:
                answer |= {"retry_after": refusal.retry_after, "global": False}
                headers["Retry-After"] = f"{refusal.retry_after:.3f}"
        self.calls.append(Call(time.monotonic(), request.method, path, status, body, code))
        if self._mute and self._mute in f"{request.method} {path}":
            await self._heard.wait()
        if status == 204:
            return web.Response(status=status, headers=headers)
        # The charset that aiohttp would add is not expected.
        headers["Content-Type"] = "application/json"
        return web.Response(status=status, body=json.dumps(answer).encode(), headers=headers)

    def _fail_if_told(self, what: str) -> None:
        for index, (path, refusal) in enumerate(self.failures):
            if path in what:
                del self.failures[index]
                raise refusal


async def _body(request: web.Request) -> Any:
    if not request.can_read_body:
        return None
    if request.content_type != "application/json":
        form = await request.post()
        told: dict[str, Any] = json.loads(str(form.get("payload_json", "{}")))
        files = [part for part in form.values() if isinstance(part, web.FileField)]
        return told | {"files": [(part.filename, part.file.read()) for part in files]}
    return await request.json()
