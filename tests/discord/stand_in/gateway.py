"""The gateway: one websocket for each bot that is connected."""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aiohttp import WSMsgType, web

from tests.discord.stand_in.world import BOT_ID, GUILD_ID, TOKEN, World, user

if TYPE_CHECKING:
    from collections.abc import Callable

DISPATCH, HEARTBEAT, IDENTIFY, RESUME, RECONNECT, INVALID, HELLO, ACK = 0, 1, 2, 6, 7, 9, 10, 11
_INTERVAL = 41_250  # milliseconds


class Session:
    """What one bot has been told; it may be resumed on another connection."""

    def __init__(self) -> None:
        self.session_id = secrets.token_hex(16)
        self.sent: list[dict[str, Any]] = []
        self.socket: web.WebSocketResponse | None = None

    async def dispatch(self, name: str, data: Any) -> None:
        event = {"op": DISPATCH, "t": name, "s": len(self.sent) + 1, "d": data}
        self.sent.append(event)
        if self.socket is not None:
            with suppress(ConnectionError):
                await self.socket.send_json(event)


class Gateway:
    """The sessions, in the order in which they began."""

    def __init__(self, world: World, url: Callable[[], str]) -> None:
        self._world = world
        self._url = url
        self.sessions: list[Session] = []
        self.connected = asyncio.Event()

    @property
    def session(self) -> Session | None:
        """The session of the bot that is connected now."""
        live = [each for each in self.sessions if each.socket is not None]
        return live[-1] if live else None

    async def dispatch(self, name: str, data: Any) -> None:
        """Tell the bot; one that is cut off hears it when it resumes its session."""
        if self.sessions:
            await self.sessions[-1].dispatch(name, data)

    async def drop(self) -> None:
        """Cut the connection, as when Discord restarts a server; bots resume."""
        session = self.session
        if session is not None and session.socket is not None:
            await session.socket.close(code=4000)

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        """Serve one websocket."""
        socket = web.WebSocketResponse(heartbeat=None)
        await socket.prepare(request)
        await socket.send_json(_frame(HELLO, {"heartbeat_interval": _INTERVAL}))
        session: Session | None = None
        try:
            async for message in socket:
                if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                    continue
                frame = json.loads(message.data)
                if frame["op"] == HEARTBEAT:
                    await socket.send_json(_frame(ACK, None))
                elif frame["op"] == IDENTIFY:
                    session = await self._identify(socket, frame["d"])
                elif frame["op"] == RESUME:
                    session = await self._resume(socket, frame["d"])
        finally:
            if session is not None and session.socket is socket:
                session.socket = None
                if self.session is None:
                    self.connected.clear()
        return socket

    async def _identify(
        self, socket: web.WebSocketResponse, data: dict[str, Any]
    ) -> Session | None:
        if data["token"] != TOKEN:
            await socket.close(code=4004)
            return None
        session = Session()
        session.socket = socket
        self.sessions.append(session)
        await session.dispatch("READY", {
            "v": 10, "user": user(BOT_ID), "session_id": session.session_id, "shard": [0, 1],
            "guilds": [{"id": str(GUILD_ID), "unavailable": True}], "private_channels": [],
            "resume_gateway_url": self._url(), "application": {"id": str(BOT_ID), "flags": 0},
            "_trace": [], "relationships": [], "user_settings": {},
        })  # fmt: skip
        await session.dispatch("GUILD_CREATE", self._world.guild())
        self.connected.set()
        return session

    async def _resume(self, socket: web.WebSocketResponse, data: dict[str, Any]) -> Session | None:
        session = next((e for e in self.sessions if e.session_id == data["session_id"]), None)
        if session is None:
            await socket.send_json(_frame(INVALID, False))
            return None
        session.socket = socket
        for event in session.sent[data["seq"] :]:
            await socket.send_json(event)
        await session.dispatch("RESUMED", {"_trace": []})
        self.connected.set()
        return session


def _frame(op: int, data: object) -> dict[str, Any]:
    return {"op": op, "d": data, "s": None, "t": None}
