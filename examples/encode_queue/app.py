"""One run, from the first look at the database to the final tables."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp

from examples.encode_queue.accident import Accident
from examples.encode_queue.bot import Bot, made_up_requests, requests_for
from examples.encode_queue.clips import FULL, QUICK, make_material
from examples.encode_queue.facts import SETTINGS
from examples.encode_queue.ffmpeg import check_ffmpeg
from examples.encode_queue.follow import Follower
from examples.encode_queue.media_server import MediaServer, count_downloads
from examples.encode_queue.options import Options
from examples.encode_queue.report import as_json, print_report, read_lines
from examples.encode_queue.screen import Screen, choose_screen
from examples.encode_queue.transfers import transfers
from examples.encode_queue.workers import Names, Workers
from pandora_db import JobDb, JobRow, JobType, Stage, StageKind
from pandora_db.runtime import Pipeline

_RATE = 8_000_000  # bytes per second of each transfer, so that the bars can be watched
_EARLIER = 12  # lines of earlier runs that are shown
_MADE_UP = 8
_STAGES = frozenset(Stage)


async def run(options: Options) -> int:
    """Work the queue off and print the log.

    Returns the exit code: 0 when every job has ended (a failed job is an end), 130 or 143 when a
    signal stopped the run.

    Raises:
        StepError: there is no ffmpeg, or an encoder ended by itself.
        PandoraDbError: the database refuses.
    """
    await check_ffmpeg()
    options.folder.mkdir(parents=True, exist_ok=True)
    journal = options.folder / "demo.log"
    _log_to(journal)
    names = Names()
    async with JobDb.open(options.db, settings=SETTINGS) as db:
        await db.init_schema()
        health = await db.health()
        with choose_screen(json=options.json) as screen:
            if health.dialect == "sqlite" and health.warnings:
                version = f"SQLite {health.server_version}"
                screen.note(f"several processes on {version}: for a demo only, see docs/connect.md")
            follower = Follower(db, screen, names)
            work = asyncio.create_task(_work(options, db, screen, follower, names))
            with _signals(work.cancel) as received:
                try:
                    await work
                except asyncio.CancelledError:
                    if not received:
                        raise
        known = set(follower.job_ids)
        others = await db.get_completed_jobs(_EARLIER + len(known))
        older = [job for job in others if job.job_id not in known and _ours(job)][:_EARLIER]
        downloads = count_downloads(journal)
        lines = await read_lines(db, await db.get_jobs_by_ids(sorted(known)), downloads)
        earlier = await read_lines(db, older, downloads)
        counts = await db.stage_counts()
        left = {code: number for code, number in counts.items() if number and code in _STAGES}
    if options.json:
        print(as_json(lines, earlier, sum(left.values())))
    else:
        print_report(lines, [] if received else earlier, names)
    if received:
        _say_what_is_left(left, sources=bool(options.sources))
        return 128 + received[0]
    return 0


async def _work(
    options: Options, db: JobDb, screen: Screen, follower: Follower, names: Names
) -> None:
    async with db.watch() as events:
        await expect_left_over(db, follower)
        left = len(follower.job_ids)
        made_up = options.clips
        if made_up is None:
            made_up = 0 if left or options.sources else _MADE_UP
        clips, intro = await make_material(
            options.folder / "clips",
            QUICK if options.quick else FULL,
            screen.note,
            only_intro=made_up < 1,
        )
        requests = requests_for(options.sources, options.seed)
        requests += made_up_requests(clips, made_up, options.seed)
        if left and not requests:
            screen.note(f"finishing what an earlier run left: {left}")
        accident = Accident(screen, follower.rows)
        workers = Workers(
            options.db, intro, number=options.workers, quick=options.quick, names=names,
            heard=accident.heard, lost=accident.lost,
        )  # fmt: skip
        rate = 0 if options.quick else _RATE
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
        async with (
            MediaServer(options.folder / "uploads", rate=rate) as server,
            aiohttp.ClientSession(timeout=timeout) as http,
            asyncio.TaskGroup() as group,
        ):
            here = transfers(http, server, hands=options.workers)
            tasks = [
                group.create_task(workers.run()),
                group.create_task(_run_here(here, db)),
                group.create_task(follower.follow(events)),
                group.create_task(follower.show_progress()),
            ]
            if options.kill or (options.kill is None and made_up):
                tasks.append(group.create_task(accident.happen()))
            bot = Bot(
                db, server, screen, follower, folder=options.folder.resolve(), limit=options.limit
            )
            await bot.feed(requests)
            await follower.all_ended()
            for task in tasks:
                task.cancel()


async def expect_left_over(db: JobDb, follower: Follower) -> None:
    """Wait for what an earlier run left, too: lost workers' jobs are taken back by every handle."""
    unowned = (await db.recover()).unowned  # another program's, which may still be at them
    for job in await db.get_active_jobs():
        if not _ours(job) or job.hold or job.job_id in unowned:
            continue
        if Stage(job.ready).kind in (StageKind.WAITING, StageKind.WORKING):
            follower.expect(job.job_id)


def _ours(job: JobRow) -> bool:
    """Whether it is a job of the encode pipeline: a database may hold others."""
    return job.job_type == JobType.ENCODE


async def _run_here(pipeline: Pipeline, db: JobDb) -> None:
    async with pipeline.running(db, shutdown_timeout=4.0):
        await asyncio.Event().wait()  # until cancelled


def _log_to(file: Path) -> None:
    """Have all that is logged written to `file`, and not over the bars."""
    logging.basicConfig(
        filename=file, encoding="utf-8", level=logging.INFO, format="%(asctime)s %(message)s"
    )
    logging.captureWarnings(capture=True)


def _say_what_is_left(left: dict[int, int], *, sources: bool) -> None:
    listed = ", ".join(f"{number} {Stage(code).name.capitalize()}" for code, number in left.items())
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
