"""One run, from the lock to the final table."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import aiohttp

from examples.encode_queue.bot import Bot, Request, made_up_requests, requests_for
from examples.encode_queue.clips import FULL, QUICK, make_material
from examples.encode_queue.lock import single_process
from examples.encode_queue.media_server import MediaServer
from examples.encode_queue.options import Options
from examples.encode_queue.report import Line, as_json, print_tables, read_lines
from examples.encode_queue.resume import pick_up
from examples.encode_queue.screen import Screen, choose_screen
from examples.encode_queue.steps import Tools
from examples.encode_queue.workers import Pipeline
from pandora_db import JobDb, JobRow, Stage

_RATE = 8_000_000  # bytes per second of each transfer, so that the bars can be watched
_EARLIER = 12  # lines of earlier runs that are shown
_MADE_UP = 8


@dataclass(slots=True)
class Run:
    """What this run has to do with: jobs left by an earlier one, and new ones."""

    bot: Bot | None = None
    left_over: list[JobRow] = field(default_factory=list)

    @property
    def job_ids(self) -> list[int]:
        """Every job of this run, the left-over ones first."""
        accepted = self.bot.accepted if self.bot else []
        return [*(job.job_id for job in self.left_over), *accepted]


async def run(options: Options) -> int:
    """Work the queue off and print the log.

    Returns the exit code: 0 when every job has ended (a failed job is an end), 130 or 143 when a
    signal stopped the run.

    Raises:
        AlreadyRunningError: another process works here.
        PandoraDbError: the database refuses.
    """
    with single_process(options.folder / "lock"), choose_screen(json=options.json) as screen:
        async with JobDb.open(options.db) as db:
            await db.init_schema()
            progress = Run()
            work = asyncio.create_task(_work(options, db, screen, progress))
            with _signals(work.cancel) as received:
                try:
                    await work
                except asyncio.CancelledError:
                    if not received:
                        raise
            lines, earlier, total = await _read_log(db, progress.job_ids)
            left = await _left(db)
    if options.json:
        print(as_json(lines, earlier, sum(left.values())))
    else:
        print_tables(lines, [] if received else earlier, total)
    if received:
        _say_what_is_left(left, sources=bool(options.sources))
        return 128 + received[0]
    return 0


async def _work(options: Options, db: JobDb, screen: Screen, progress: Run) -> None:
    progress.left_over = await pick_up(db, screen)
    number = options.clips
    if number is None:
        number = 0 if progress.left_over or options.sources else _MADE_UP
    size = QUICK if options.quick else FULL
    clips, intro = await make_material(
        options.folder / "clips", size, screen.note, only_intro=number < 1
    )
    rate = 0 if options.quick else _RATE
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
    async with (
        MediaServer(options.folder / "uploads", rate=rate) as server,
        aiohttp.ClientSession(timeout=timeout) as http,
    ):
        tools = Tools(db, http, server, intro, options.quick)
        pipeline = Pipeline(tools, screen, workers=options.workers)
        bot = Bot(
            db, server, screen, pipeline, folder=options.folder.resolve(), limit=options.limit
        )
        progress.bot = bot
        requests: list[Request] = requests_for(options.sources, options.seed)
        requests += made_up_requests(clips, number, options.seed)
        for job in progress.left_over:
            screen.add(job)
            if not job.archived:
                await pipeline.expect(job.job_id)
        if progress.left_over and not requests:
            screen.note(f"finishing what an earlier run left: {len(progress.left_over)}")
        await pipeline.run(lambda: bot.feed(requests))


async def _read_log(db: JobDb, job_ids: list[int]) -> tuple[list[Line], list[Line], int]:
    mine = await db.get_jobs_by_ids(sorted(job_ids))
    known = set(job_ids)
    others = await db.get_completed_jobs(_EARLIER + len(known))
    older = [job for job in others if job.job_id not in known][:_EARLIER]
    total = await db.count_jobs(archived=True) - sum(job.archived for job in mine)
    return await read_lines(db, mine), await read_lines(db, older), total


async def _left(db: JobDb) -> dict[str, int]:
    counts = await db.stage_counts()
    return {Stage(code).name.capitalize(): number for code, number in counts.items() if number}


def _say_what_is_left(left: dict[str, int], *, sources: bool) -> None:
    listed = ", ".join(f"{number} {name}" for name, number in left.items())
    same = "The same command without the files" if sources else "The same command"
    hint = f" {same} finishes them." if listed else ""
    print(f"Stopped. Left: {listed or 'no job'}.{hint}", file=sys.stderr, flush=True)


@contextmanager
def _signals(stop: Callable[[], object]) -> Iterator[list[int]]:
    """Call `stop` at the first SIGINT or SIGTERM; a second one has its usual effect."""
    loop = asyncio.get_running_loop()
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)

    def arrived(number: int) -> None:
        received.append(number)
        stop()
        restore()

    def restore() -> None:
        for number in numbers:
            loop.remove_signal_handler(number)

    if sys.platform == "win32":  # no signal handlers in its event loop: Ctrl-C ends the run at once
        yield received
        return
    for number in numbers:
        loop.add_signal_handler(number, arrived, number)
    try:
        yield received
    finally:
        restore()
