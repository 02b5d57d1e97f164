"""Opening, closing, being asked how one is, and what stands in the way of it."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pandora_db import (
    Claim,
    ConnectionFailed,
    HandleClosed,
    InvalidInput,
    JobDb,
    Limits,
    Settings,
    Stage,
    StatementTimeout,
    Store,
)
from pandora_db.migrations import load_migrations
from pandora_db.testing import make_job
from tests.conformance.test_every_method import scenario

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.support.raw import Raw


async def test_open_closes_at_the_end_of_the_block(db_url: str) -> None:
    async with JobDb.open(db_url) as db:
        job_id = await db.insert_job(make_job())
    with pytest.raises(HandleClosed):
        await db.get_job(job_id)

    kept: list[JobDb] = []

    async def fails() -> None:
        async with JobDb.open(db_url) as again:
            kept.append(again)
            assert await again.get_job(job_id) is not None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    with pytest.raises(HandleClosed):
        await kept[0].get_job(job_id)


async def test_connect_and_close_serve_a_bots_hooks(db_url: str) -> None:
    db = await JobDb.connect(db_url)
    await db.insert_job(make_job())
    await db.close()
    await db.close()
    async with JobDb.open(db_url) as again:
        assert await again.count_jobs() == 1


async def test_what_connect_gave_is_closed_at_the_end_of_a_block(db_url: str) -> None:
    async with await JobDb.connect(db_url) as db:
        await db.ping()
    with pytest.raises(HandleClosed):
        await db.ping()
    with pytest.raises(HandleClosed):
        async with db:
            pass


async def test_connect_takes_the_url_of_the_environment(
    db_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANDORA_DB_URL", db_url)
    async with JobDb.open() as db:
        assert await db.count_jobs() == 0


async def test_settings_are_given_whole_or_one_by_one(db_url: str) -> None:
    async with JobDb.open(db_url, settings=Settings(pool_max=3), statement_timeout=7.0) as db:
        assert (db.settings.pool_max, db.settings.statement_timeout) == (3, 7.0)
        assert await db.count_jobs() == 0
    with pytest.raises(InvalidInput, match="did you mean pool_max"):
        await JobDb.connect(db_url, pool_maxx=3)


async def test_ping_tells_the_seconds_of_a_round_trip(db: JobDb) -> None:
    start = time.perf_counter()
    seconds = await db.ping()

    assert 0 < seconds <= time.perf_counter() - start


async def test_health_tells_versions_durability_and_use(db: JobDb, raw: Raw) -> None:
    await db.insert_jobs(make_job() for _ in range(500))

    health = await db.health()

    known = len(load_migrations(db.dialect))
    assert (health.schema_version, health.known_schema_version) == (known, known)
    assert health.dialect == db.dialect
    assert health.durable
    assert health.integrity is None
    assert health.size_bytes is not None
    assert health.size_bytes > 100_000
    assert 1 <= health.pool.size <= health.pool.max
    if db.dialect == "sqlite":
        assert (health.pool.size, health.pool.max) == (2, 2), "one writes, one reads"
        assert (health.journal_mode, health.synchronous) == ("wal", "full")
        assert health.wal_bytes
        assert (await db.health(deep=True)).integrity == []
        assert raw("SELECT sqlite_version()") == [(health.server_version,)]
    else:
        assert raw("SHOW server_version") == [(health.server_version,)]
        assert health.driver_version.startswith("asyncpg ")
    assert health.server_version in str(health)


async def test_health_tells_of_weakened_durability(db_url: str, raw: Raw) -> None:
    if db_url.startswith("sqlite"):
        settings: dict[str, Any] = {"synchronous": "normal"}
    else:
        settings = {}
        (name,) = raw("SELECT current_database()")[0]
        raw(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    async with JobDb.open(db_url, **settings) as db:
        health = await db.health()

    assert not health.durable
    assert not health.ok
    assert any("synchronous" in warning for warning in health.warnings)
    assert "may be lost" in health.durability


async def test_memory_keeps_nothing(dialect: str, empty_url: str) -> None:
    url = ":memory:" if dialect == "sqlite" else empty_url
    async with JobDb.open(url) as db:
        await db.init_schema()
        await db.insert_job(make_job())
        health = await db.health()
        assert health.durable == (dialect == "postgres")
    if dialect == "sqlite":
        async with JobDb.open(url) as db:
            assert (await db.plan_schema()).pending


CALLS: list[Callable[[JobDb], Awaitable[object]]] = [
    lambda db: db.init_schema(),
    lambda db: db.plan_schema(),
    lambda db: db.verify_schema(),
    lambda db: db.health(),
    lambda db: db.ping(),
    lambda db: db.transaction().__aenter__(),
    lambda db: db.get_job(1),
    lambda db: db.insert_job(make_job()),
    lambda db: db.insert_job(make_job(), max_active=5),
    lambda db: db.insert_jobs([make_job()]),
    lambda db: db.get_next_job_id(),
    lambda db: db.update_stage(1, 1),
    lambda db: db.archive_job(1),
    lambda db: db.update_job(1, priority=1),
    lambda db: db.retry_job(1),
    lambda db: db.requeue_job(1),
    lambda db: db.cancel_job(1),
    lambda db: db.decline_job(1),
    lambda db: db.delete_job(1),
    lambda db: db.get_jobs_by_ids([1]),
    lambda db: db.get_jobs_by_stage(1),
    lambda db: db.get_active_jobs(),
    lambda db: db.get_queue_length(),
    lambda db: db.get_user_history("mika"),
    lambda db: db.get_completed_jobs(),
    lambda db: db.get_recent_jobs(),
    lambda db: db.get_jobs(),
    lambda db: db.count_jobs(),
    lambda db: anext(db.iter_jobs()),
    lambda db: db.queue_position(1),
    lambda db: db.stage_counts(),
    lambda db: db.history(1),
    lambda db: db.pause_job(1),
    lambda db: db.resume_job(1),
    lambda db: db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING),
    lambda db: db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limits=Limits(stage=1)),
    lambda db: db.claim_job(1, into=Stage.DOWNLOADING),
    lambda db: db.recover(),
    lambda db: db.has_lapsed(),
    lambda db: db.get_recovery_policies(),
    lambda db: db.set_recovery_policy("fail", name="x"),
    lambda db: db.load_checkpoint(1, stage=Stage.ENCODING),
    lambda db: db.renew_claims([KEPT[0]]),
    lambda db: db.refresh_claims([KEPT[0]]),
    lambda db: db.finish_job(KEPT[0], Stage.DOWNLOADED),
    lambda db: db.fail_job(KEPT[0], "x"),
    lambda db: db.snooze_job(KEPT[0], 1),
    lambda db: db.release_job(KEPT[0]),
    lambda db: db.save_checkpoint(KEPT[0], {}),
]
KEPT: list[Claim] = []


async def test_a_closed_handle_says_so_from_every_method(db: JobDb) -> None:
    await db.insert_job(make_job())
    KEPT[:] = await db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING)
    await db.close()

    for call in CALLS:
        with pytest.raises(HandleClosed, match=r"closed: use it inside `async with JobDb\.open"):
            await call(db)
    with pytest.raises(HandleClosed):
        db.bind(None)  # type: ignore[arg-type]
    methods = [name for name in dir(Store) if not name.startswith("_")]
    assert len(CALLS) >= len(methods)


async def test_close_waits_for_calls_under_way(db: JobDb, db_url: str) -> None:
    calls = [asyncio.create_task(db.insert_job(make_job())) for _ in range(50)]
    await asyncio.sleep(0)

    await db.close()

    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    told = {one for one in outcomes if isinstance(one, int)}
    async with JobDb.open(db_url) as again:
        assert {row.job_id for row in await again.get_active_jobs()} == told
    assert len(told) == 50


FORKS = """
    import asyncio, os, sys, warnings
    from pandora_db import HandleForked, Job, JobDb

    warnings.simplefilter("ignore", DeprecationWarning)

    async def main(url):
        async with JobDb.open(url) as db:
            await db.insert_job(Job(author="before"))
            child = os.fork()
            if child == 0:
                refused = 0
                for call in (db.get_active_jobs(), db.insert_job(Job(author="child")), db.ping()):
                    try:
                        await call
                    except HandleForked as error:
                        refused += "open a new JobDb in the child" in str(error)
                os._exit(10 + refused)
            _, status = os.waitpid(child, 0)
            await db.insert_job(Job(author="after"))
            rows = await db.get_active_jobs()
            print(os.waitstatus_to_exitcode(status), [row.author for row in rows])

    asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork()")
async def test_a_handle_is_refused_after_a_fork(db: JobDb, db_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FORKS), db_url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.stdout == "13 ['before', 'after']\n", done.stderr


async def test_a_process_ends_although_close_was_forgotten(db: JobDb, db_url: str) -> None:
    script = """
        import asyncio, sys
        from pandora_db import Job, JobDb

        async def main(url):
            db = await JobDb.connect(url)
            print(await db.insert_job(Job(author="x")))

        asyncio.run(main(sys.argv[1]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), db_url],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert await db.get_job(1) is not None


async def test_a_statement_that_takes_too_long_is_stopped(db_url: str) -> None:
    async with JobDb.open(db_url, statement_timeout=0.2) as db:
        await db.insert_jobs(make_job() for _ in range(3000))
        slow = (
            "SELECT count(*) FROM {schema}.jobs AS a, {schema}.jobs AS b, {schema}.jobs AS c "
            "WHERE a.job_id + b.job_id + c.job_id < 0"
        )
        driver: Any = db._driver
        driver.queries._blocks = {
            **driver.queries._blocks,
            "slow": type(driver.queries._blocks["get_job"])("many", "here", slow),
        }
        start = time.monotonic()
        with pytest.raises(StatementTimeout, match="statement_timeout"):
            await driver.read("slow", {})
        assert time.monotonic() - start < 2
        assert await db.count_jobs() == 3000


async def test_no_error_log_or_repr_shows_the_password(
    postgres_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "c@nary#pass"  # noqa: S105 - it opens nothing
    caplog.set_level(logging.DEBUG)
    shown: list[str] = []
    for url in (
        f"host=127.0.0.1 port=1 user=x dbname=y password='{secret}'",
        "postgresql://x:c%40nary%23pass@127.0.0.1:1/y",
        f"postgresql://x:{secret}@127.0.0.1:1/y",
        f"{postgres_dsn} password='{secret}' sslmod=require",
    ):
        with pytest.raises((ConnectionFailed, InvalidInput)) as caught:
            await JobDb.connect(url, connect_timeout=2.0)
        error: BaseException | None = caught.value
        while error is not None:
            shown += [str(error), repr(error), str(error.args)]
            error = error.__cause__ or error.__context__
    async with JobDb.open(f"{postgres_dsn} password='{secret}'") as db:
        shown += [repr(db), str(db), repr(db._target), repr(await db.health())]
        shown += [str(vars(db._target))]
    shown.append(caplog.text)

    assert [text for text in shown if "c@nary" in text or "c%40nary" in text] == []


async def test_two_handles_see_each_others_writes(db: JobDb, db_url: str) -> None:
    async with JobDb.open(db_url) as other:
        job_id = await db.insert_job(make_job())
        await other.archive_job(job_id)
        row = await db.get_job(job_id)
        assert row is not None
        assert row.archived


async def test_the_scenario_leaves_a_sound_database(db: JobDb) -> None:
    await scenario(db)

    health = await db.health(deep=True)
    assert not health.integrity
    assert await db.verify_schema() == []


async def test_an_opening_that_is_used_as_a_handle_says_how_to_open_one(db_url: str) -> None:
    made: Any = JobDb
    use = re.escape("use `async with JobDb.open(…) as db:`, or `db = await JobDb.connect(…)`")
    with pytest.raises(TypeError, match=rf"cannot be awaited: {use}$"):
        await made.open(db_url)
    with pytest.raises(TypeError, match=rf"not for `with`: {use}$"), made.open(db_url):
        pass
    with pytest.raises(AttributeError, match=rf"has no get_job: {use}$"):
        await made.open(db_url).get_job(1)
    for arguments in ((db_url,), (Path("x.db"),), ()):
        with pytest.raises(TypeError, match=rf"not made by its class: {use}$"):
            made(*arguments)


async def test_an_opening_closes_what_it_opened(db_url: str) -> None:
    opening = JobDb.open(db_url)
    async with opening as first, opening as second:
        assert first is not second
    for db in (first, second):
        with pytest.raises(HandleClosed):
            await db.ping()
