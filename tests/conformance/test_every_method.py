"""Every public method, on every kind of session, gives the same on both dialects."""

from __future__ import annotations

import ast
import inspect
import json
from collections import defaultdict
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID, uuid4

import aiosqlite
import asyncpg

from pandora_db import (
    Finish,
    Job,
    JobDb,
    JobEvent,
    LeaseLost,
    Limits,
    LogLine,
    PandoraDbError,
    Preset,
    Stage,
    Store,
)
from pandora_db.dsn import PostgresTarget, parse_dsn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable

    from tests.support.databases import PostgresDatabases

# A test of one of these fixtures runs on both dialects.
ON_BOTH = {"db", "db_url", "empty_url", "dialect", "caller"}


def public_methods(owner: type) -> set[str]:
    """What a user of `owner` may call or read."""
    return {name for name, _ in inspect.getmembers(owner) if not name.startswith("_")}


def calls_of_tests() -> dict[str, set[str]]:
    """Attribute that a test reads → names of the tests, of those that run on both dialects."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in Path(__file__).parent.glob("test_*.py"):
        if path.name == Path(__file__).name:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            if ON_BOTH & {argument.arg for argument in node.args.args}:
                for part in ast.walk(node):
                    if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                        found[part.attr].add(node.name)
    return found


def test_every_public_method_has_a_conformance_test_of_its_own() -> None:
    """One that has its name, or that of what it reads, in the name of the test and calls it."""
    calls = calls_of_tests()
    missing = {
        name
        for name in public_methods(JobDb) | public_methods(Store)
        if not any(name in test or _stem(name) in test for test in calls[name])
    }

    assert missing == set()
    assert len(public_methods(Store)) > 20


def _stem(name: str) -> str:
    """`init_schema` is also met as `schema`; `get_active_jobs` only as itself."""
    return {
        "init_schema": "schema",
        "connect": "connect",
        "transaction": "transaction",
        "bind": "bound",
        "settings": "setting",
    }.get(name, name)


class Trace:
    """The results of calls in order, without what differs from run to run."""

    def __init__(self) -> None:
        self.lines: list[object] = []

    async def note(self, call: Awaitable[Any]) -> Any:
        try:
            result = await call
        except PandoraDbError as error:
            self.lines.append((type(error), str(error)))
            return None
        self.lines.append(_plain(result))
        return result


def _plain(value: object) -> object:
    """Times and random ids differ between runs, JSON text in its spaces and the order of keys."""
    if isinstance(value, JobEvent):
        return _plain(tuple(value))
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime | UUID) or (isinstance(value, float) and value > 1e9):
        return type(value)
    if isinstance(value, str) and value.startswith(("{", "[")):
        return json.loads(value)
    return value


async def scenario(store: Store) -> list[object]:
    """Call everything that a store has, good and bad."""
    trace = Trace()
    note = trace.note
    job = Job(
        author="mika", author_id=7, guild_id=9, requested_at=50, config={"a": [1, 0.5, "ü"]},
        params=b"\\x41\t\n\0\xff",
    )  # fmt: skip
    first = await note(store.insert_job(job))
    await note(store.insert_job(job.model_copy(update={"job_id": first})))
    await note(store.insert_job(job.model_copy(update={"idempotency_key": "k"}), max_active=5))
    await note(store.insert_job(job, max_active=1))
    await note(store.insert_jobs([job, job.model_copy(update={"preset": Preset.GPU}), job]))
    await note(store.insert_jobs([job, job.model_copy(update={"job_id": first})]))
    keyed = [job.model_copy(update={"external_id": "e"}), job]
    await note(store.insert_jobs(keyed))
    await note(store.insert_jobs(keyed))
    # What a refused call reserved is free again inside a transaction of SQLite.
    trace.lines.append(type(await store.get_next_job_id()))
    await note(store.update_stage(first, Stage.DOWNLOADING))
    await note(store.update_stage(first, Stage.QUEUED))
    await note(store.update_stage(first, 42))
    await note(store.update_job(first, progress=0.1, output={"z": 1, "b": [2**60, 0.1, None]}))
    await note(store.update_job(first, error="x", priority=-3, current_step=None))
    await note(store.cancel_job(first))
    await note(store.requeue_job(first))
    await note(store.cancel_job(first))
    await note(store.retry_job(first))
    await note(store.decline_job(first, reason="no"))
    await claims_of_the_scenario(store, trace)
    await children_of_the_scenario(store, trace, job)
    await note(store.archive_job(2))
    await note(store.archive_job(404))
    await note(store.delete_job(3))
    await note(store.delete_job(3))
    for job_id in (first, 2, 3, 404):
        await note(store.get_job(job_id))
        await note(store.history(job_id))
        await note(store.queue_position(job_id))
    await note(store.get_jobs_by_ids([5, 4, 2, 404]))
    await note(store.get_jobs_by_stage(Stage.QUEUED))
    await note(store.get_active_jobs())
    await note(store.get_queue_length())
    await note(store.get_user_history("mika", 3))
    await note(store.get_user_history(7, 2))
    await note(store.get_completed_jobs())
    await note(store.get_recent_jobs(2))
    await note(store.get_jobs(status="queued", guild_id=9, since=1, until=99, archived=False))
    await note(store.get_jobs(after=(50, 4), limit=2, offset=1))
    await note(store.count_jobs(author="mika", archived=True))
    trace.lines.append([_plain(row) async for row in store.iter_jobs(page_size=2)])
    await note(store.stage_counts())
    return trace.lines


async def children_of_the_scenario(store: Store, trace: Trace, job: Job) -> None:
    """Children, and what is counted by name."""
    note = trace.note
    await note(store.insert_child(404, job, key="a"))
    child = await note(store.insert_child(2, job.model_copy(update={"job_id": 70}), key="a"))
    await note(store.insert_child(2, job, key="a"))
    await note(store.get_children(2))
    await note(store.get_parent(child))
    names = await store.name_counts(Stage.QUEUED)
    trace.lines.append(sorted(names.items(), key=str))


async def claims_of_the_scenario(store: Store, trace: Trace) -> None:
    """Claims, their ends, checkpoints and recovery."""
    note = trace.note
    downloads = {"into": Stage.DOWNLOADING, "author": "claimed"}
    job = Job(author="claimed", requested_at=60, max_attempts=2, name="n", concurrency_key="k")
    ids = [await store.insert_job(job.model_copy(update={"job_id": 50 + n})) for n in range(5)]
    tagged = await store.insert_job(
        job.model_copy(update={"job_id": 60, "tags": ("gpu",), "priority": 3})
    )
    await note(store.pause_job(ids[4]))
    await note(store.resume_job(ids[4]))
    await note(store.pause_job(ids[4]))
    found = await store.claim_jobs(Stage.QUEUED, **downloads, limit=2, names=["n"], job_type=1)
    found += await store.claim_jobs(Stage.QUEUED, **downloads, tags=["gpu", "x"])
    found += await store.claim_jobs(
        Stage.QUEUED, **downloads, limit=9, limits=Limits(stage=50, author=4, concurrency_key=9)
    )
    trace.lines.append([(one.job_id - ids[0], one.attempt, one.stage) for one in found])
    assert found[2].job_id == tagged
    assert store.owner == found[0].owner
    await note(store.claim_job(ids[4], into=Stage.DOWNLOADING))
    await note(store.claim_job(404, into=Stage.DOWNLOADING))
    trace.lines.append(await store.renew_claims(found) == found)
    trace.lines.append(await store.refresh_claims(found) == found)
    await note(store.update_job(found[0], progress=0.5))
    await note(store.append_logs(found[0], [LogLine("a"), LogLine("b", 30, 0.5)]))
    await note(store.append_logs(found[0], [LogLine("c")], skipped=3, operation_id=uuid4()))
    await note(store.logs(ids[0], after=1))
    await note(store.save_checkpoint(found[0], {"n": {1, 2}, "raw": b"x" * 90_000}))
    await note(store.save_checkpoint(found[0], {"n": {1, 2}, "raw": b"y" * 900_000}))
    await note(store.save_checkpoint(found[0], {"n": {1, 3}, "raw": b"y" * 900_000}))
    await note(store.load_checkpoint(found[0]))
    await note(store.save_checkpoint(found[0], {"x": object()}))
    await note(store.cancel_job(found[3].job_id))
    await note(store.release_job(found[3]))
    await note(store.fail_job(found[2], "first", retry_in=0.0))
    again = await store.claim_job(tagged, into=Stage.DOWNLOADING)
    assert again is not None
    await note(store.fail_job(again, "second", retry_in=0.0))
    await note(store.snooze_job(found[1], 1000))
    await note(store.finish_job(found[0], Stage.DOWNLOADED, output=[1]))
    (outcome,) = await store.finish_jobs([Finish(found[0], Stage.DOWNLOADED)])
    trace.lines.append(type(outcome).__name__)
    for late in (store.finish_job, store.update_stage):
        with suppress(LeaseLost):
            await late(found[0], Stage.DOWNLOADED)
            trace.lines.append("accepted")
    await note(store.set_recovery_policy("fail", name="n"))
    await note(store.get_recovery_policies())
    trace.lines.append(await store.has_lapsed())
    report = await store.recover()
    trace.lines.append((len(report.jobs), len(report.unowned)))
    report = await store.recover(unowned="requeue")
    trace.lines.append([(job.outcome, job.attempt, job.stage) for job in report.jobs])


def test_the_scenario_calls_every_method_of_a_store() -> None:
    names = {
        node.attr
        for function in (scenario, claims_of_the_scenario, children_of_the_scenario)
        for node in ast.walk(ast.parse(inspect.getsource(function)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "store"
    }

    assert names == public_methods(Store)


class Place(NamedTuple):
    dialect: str
    session: str
    schema: str = "public"

    def __str__(self) -> str:
        return "-".join(self)


PLACES = [
    Place("sqlite", "handle"),
    Place("sqlite", "memory"),
    Place("sqlite", "transaction"),
    Place("sqlite", "bound"),
    Place("postgres", "handle"),
    Place("postgres", "transaction"),
    Place("postgres", "bound"),
    # A reserved word, and not on the search path: every name must be qualified and quoted.
    Place("postgres", "handle", "order"),
    Place("postgres", "transaction", "order"),
    Place("postgres", "bound", "order"),
    Place("postgres", "pgbouncer"),
]


@asynccontextmanager
async def store_at(place: Place, url: str) -> AsyncIterator[Store]:
    """A store on a new database at `place`."""
    settings: dict[str, Any] = {"pgbouncer": True} if place.session == "pgbouncer" else {}
    if place.session == "memory":
        url = ":memory:"
    async with JobDb.open(url, schema=place.schema, **settings) as db:
        await db.init_schema()
        assert await db.verify_schema() == []
        if place.session == "transaction":
            async with db.transaction() as tx:
                yield tx
        elif place.session == "bound" and place.dialect == "sqlite":
            assert db._target.path is not None
            async with aiosqlite.connect(db._target.path) as theirs:
                await theirs.execute("BEGIN IMMEDIATE")
                yield db.bind(theirs)
        elif place.session == "bound":
            target = parse_dsn(url)
            assert isinstance(target, PostgresTarget)
            connection = await asyncpg.connect(**target.connect_arguments())
            try:
                async with connection.transaction():
                    yield db.bind(connection)
            finally:
                await connection.close()
        else:
            yield db


async def test_every_method_gives_the_same_everywhere(
    tmp_path: Path, postgres_databases: PostgresDatabases
) -> None:
    traces: dict[Place, list[object]] = {}
    for place in PLACES:
        if place.dialect == "sqlite":
            async with store_at(place, str(tmp_path / f"{place}.db")) as store:
                traces[place] = await scenario(store)
        else:
            with postgres_databases.fresh() as dsn:
                async with store_at(place, dsn) as store:
                    traces[place] = await scenario(store)

    expected = traces[PLACES[0]]
    assert len(expected) > 45
    for place, trace in traces.items():
        for number, (mine, theirs) in enumerate(zip(trace, expected, strict=True)):
            assert mine == theirs, (str(place), number)
