"""The bot's side: requests of users, the limit of the queue, and what the users are told."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from examples.encode_queue.facts import PRESET_NAMES, title
from examples.encode_queue.follow import Follower
from examples.encode_queue.media_server import MediaServer
from examples.encode_queue.screen import Screen
from pandora_db import Job, JobDb, Preset, QueueFull

USERS = {"mika": 41, "noor": 42, "kofi": 43, "ines": 44, "tomasz": 45}
GUILD, CHANNEL = 1_101_000_000_000_000_001, 1_101_000_000_000_000_777
_DISCORD_EPOCH_MS = 1_420_070_400_000
_DEAD, _URGENT = 6, 5  # which of eight made-up requests has a dead link, and which is urgent
_numbers = count()


@dataclass(frozen=True, slots=True)
class Request:
    """What one chat message asks for; `source` is a file that our server offers, or a link."""

    author: str
    source: Path | str
    preset: Preset
    priority: int = 0


def made_up_requests(clips: Sequence[Path], number: int, seed: int) -> list[Request]:
    """`number` requests that use every preset; the seventh asks for a video that is not there."""
    chance = random.Random(seed)
    presets = [*Preset]
    requests: list[Request] = []
    for index in range(number):
        clip = clips[index % len(clips)]
        if index % 8 == _DEAD:
            clip = clip.with_name("deleted-by-its-owner.mkv")
        preset = presets[(index + index // len(clips) + seed) % len(presets)]
        urgent = index % 8 == _URGENT
        requests.append(Request(chance.choice([*USERS]), clip, preset, 10 if urgent else 0))
    return requests


def requests_for(sources: Sequence[str], seed: int) -> list[Request]:
    """One request for each file or link that the user named, the presets in turn."""
    presets = [Preset.STANDARD, Preset.CONCAT_SOME_SUBS, Preset.PSEUDO_LOSSLESS, Preset.GPU]
    chance = random.Random(seed)
    return [
        Request(
            chance.choice([*USERS]),
            source if source.startswith(("http://", "https://")) else Path(source).resolve(),
            presets[index % len(presets)],
        )
        for index, source in enumerate(sources)
    ]


class Bot:
    """Puts requests into the queue, and waits when the queue is full."""

    def __init__(
        self,
        db: JobDb,
        server: MediaServer,
        screen: Screen,
        follower: Follower,
        *,
        folder: Path,
        limit: int,
    ) -> None:
        self._db = db
        self._server = server
        self._screen = screen
        self._follower = follower
        self._folder = folder
        self._limit = limit

    async def feed(self, requests: Sequence[Request]) -> None:
        """Queue all `requests`, in order."""
        for request in requests:
            await self._ask(request)

    async def _ask(self, request: Request) -> None:
        # The id is reserved first, since the job's folder carries it.
        job = self._job(request, await self._db.get_next_job_id())
        assert job.job_id is not None
        self._follower.expect(job.job_id)
        job_id = await self._insert_when_there_is_room(job)
        row = await self._db.get_job(job_id)
        assert row is not None
        position = await self._db.queue_position(job_id)
        where = f"number {position} in line" if position else "at work already"
        what = f"{title(row)} is job {job_id}, {PRESET_NAMES[request.preset]}"
        self._screen.note(f"{request.author}: {what}, {where}")

    async def _insert_when_there_is_room(self, job: Job) -> int:
        told = False
        while True:
            try:
                return await self._db.insert_job(job, max_active=self._limit)
            except QueueFull as full:
                if not told:
                    self._screen.note(f"{job.author}: {full}")
                told = True
            await self._follower.wait_for_room()

    def _job(self, request: Request, job_id: int) -> Job:
        message_id = _snowflake()
        config: dict[str, str] = {}
        if isinstance(request.source, Path):
            link = self._server.share(request.source, job_id)
            config = {"file": str(request.source), "title": request.source.name}
        else:
            link = request.source
            config = {"title": link.partition("?")[0].rstrip("/").rpartition("/")[2] or link}
        return Job(
            job_id=job_id,
            author=request.author,
            author_id=1_090_000_000_000_000_000 + USERS[request.author],
            guild_id=GUILD,
            channel_id=CHANNEL,
            message_id=message_id,
            # A gateway may deliver a message twice; the second insert returns the first job.
            idempotency_key=f"message:{message_id}",
            link=link,
            preset=request.preset,
            priority=request.priority,
            directory=self._folder / "jobs" / str(job_id),
            config=config,
        )


def _snowflake() -> int:
    milliseconds = time.time_ns() // 1_000_000 - _DISCORD_EPOCH_MS
    return milliseconds << 22 | next(_numbers) & 0xFFF
