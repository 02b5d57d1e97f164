"""The accident: an encoder is killed in the middle of an encode, as if memory had run out."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

from examples.encode_queue.facts import preset_of
from examples.encode_queue.screen import Screen
from examples.encode_queue.workers import Worker
from pandora_db import JobRow, Preset

_SEGMENT = re.compile(r"job (\d+): attempt \d+, segment (\d+) of (\d+)")
_SAID = re.compile(r"job \d+: .*")
_LEAST = 4  # segments of a job whose encoder may be killed
_LOOK = 0.005  # seconds between two looks whether ffmpeg has begun


class Accident:
    """Listens to the encoders, and kills one of them when a job is half done."""

    def __init__(self, screen: Screen, jobs: Mapping[int, JobRow]) -> None:
        self._screen = screen
        self._jobs = jobs
        self._victim: asyncio.Future[tuple[Worker, Path]] = (
            asyncio.get_running_loop().create_future()
        )

    def heard(self, worker: Worker, line: str) -> None:
        """An encoder has logged a line."""
        begun = _SEGMENT.fullmatch(line)
        if begun is None:
            if _SAID.fullmatch(line):
                self._screen.note(f"{worker}: {line}")
            return
        job_id, number, total = map(int, begun.groups())
        job = self._jobs.get(job_id)
        if job is None or self._victim.done() or preset_of(job) is Preset.GPU:
            return  # the GPU preset is over in no time
        if total >= _LEAST and number == total // 2 + 1:
            self._victim.set_result((worker, Path(job.directory)))

    async def happen(self) -> None:
        """Wait until a job is half done and ffmpeg at work on its next segment, and kill."""
        worker, folder = await self._victim
        while not [*folder.glob("segment-*.part")]:  # noqa: ASYNC110 - a file is waited for
            await asyncio.sleep(_LOOK)
        self._screen.note(f"kill -9 {worker.process.pid}")
        worker.kill()

    def lost(self, worker: Worker) -> None:
        """An encoder was ended by a signal; all that it logged was heard."""
        where = ""
        if begun := _SEGMENT.fullmatch(worker.last):
            job_id, number, total = map(int, begun.groups())
            where = f" in segment {number} of {total} of job {job_id}"
        self._screen.note(f"{worker} was killed{where}")
