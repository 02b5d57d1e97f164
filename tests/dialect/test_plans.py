"""Every hot query takes its index, and costs the same beside 1,000 archived jobs and 1,000,000.

Also when its plan was first made on an empty table and the connection was kept. It takes 10 to 20
seconds on each dialect; `PANDORA_ARCHIVED_JOBS` sets another length of the archive.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.archive import fill_archive
from pandora_db import JobDb
from tests.support.explain import Asked, Plan, PostgresEngine, SqliteEngine
from tests.support.plans import SHORT, plans_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.databases import PostgresDatabases

ARCHIVED = int(os.environ.get("PANDORA_ARCHIVED_JOBS", "1000000"))
BIG_STATES = ("kept", "fresh", "analysed")
LIVE = {"idx_jobs_ready", "idx_jobs_active"}
BY_ID = {"primary key"}
# Which of these indexes each query is to take, and no other.
INDEXES = {
    "archive_job": BY_ID,
    "archive_job repeated": BY_ID,
    "claim_by_ids skip_locked": BY_ID,
    "claim_jobs hundred untagged": LIVE | BY_ID,
    "claim_jobs one untagged": LIVE | BY_ID,
    "claim_jobs thousand untagged": LIVE | BY_ID,
    "count_busy": LIVE,
    "count_active_up_to": LIVE,
    "delete_job": BY_ID,
    "end_claim": BY_ID,
    "find_candidates untagged": LIVE,
    "find_lapsed": LIVE | BY_ID,
    "find_unowned": LIVE | BY_ID,
    "get_checkpoint_heads": BY_ID,
    "delete_job repeated": BY_ID | {"idx_job_deletions_job"},
    "find_state": BY_ID,
    "get_active_jobs": LIVE,
    "get_completed_jobs": {"idx_jobs_archived"},
    "get_job": BY_ID,
    "get_live_jobs": LIVE,
    "get_live_jobs not_paused stages": LIVE,
    "get_live_jobs stage": LIVE,
    "get_jobs": BY_ID | {"idx_jobs_requested"},
    "get_jobs since until": BY_ID | {"idx_jobs_requested"},
    "get_jobs after archived": BY_ID | {"idx_jobs_requested"},
    "get_jobs archived": BY_ID | {"idx_jobs_requested"},
    "get_jobs archived author": BY_ID | {"idx_jobs_author"},
    "get_jobs author": BY_ID | {"idx_jobs_author"},
    "get_jobs guild_id": BY_ID | {"idx_jobs_guild"},
    "count_live_jobs author_id": LIVE,
    "count_jobs author": BY_ID | {"idx_jobs_author"},
    "get_jobs_by_ids": BY_ID,
    "get_jobs_by_stage": LIVE,
    "get_queue_length": LIVE,
    "get_user_history by_id": BY_ID | {"idx_jobs_author_id"},
    "get_user_history by_name": BY_ID | {"idx_jobs_author"},
    "history": BY_ID | {"idx_job_deletions_job"},
    # SQLite counts the next id from the ends of two indexes; PostgreSQL has a sequence.
    "insert_job": BY_ID | {"idx_job_deletions_job"},
    "move_job": BY_ID,
    "recover_jobs lapsed": LIVE | BY_ID,
    "renew_leases": BY_ID,
    "save_checkpoint": BY_ID,
    "queue_position": BY_ID | {"idx_jobs_ready"},
    "stage_counts": LIVE,
    "update_job": BY_ID,
    "update_job repeated": BY_ID,
    "update_stage": BY_ID,
    "update_stage repeated": BY_ID,
}
# These sort the few rows that they found: a stage's live jobs, one job's events, one batch.
SORTS = {
    "claim_by_ids skip_locked",
    "count_busy",
    "renew_leases",
    "save_checkpoint",
    "find_unowned",
    "recover_jobs lapsed",
    "get_live_jobs not_paused stages",
    "get_live_jobs stage",
    "get_jobs_by_stage",
    "history",
    "insert_job",
    "stage_counts",
}

# No index of PostgreSQL has the live jobs of all stages in the order of their requests: each claim
# would have to make an entry in it.
SORTS_ON_POSTGRES = SORTS | {"get_active_jobs", "get_live_jobs"}
# There a join of a thousand rows is sorted as fast as it is read in order.
SORTS_WHEN_SHORT = SORTS_ON_POSTGRES | {"get_jobs after archived"}

# ANALYZE looks at 30,000 of a million rows, and may meet none of the live ones: the planner then
# takes them for one row, reads it by either index and sorts. The archive costs nothing so, too.
MAY_SEEM_ONE = {"get_active_jobs", "get_live_jobs", "queue_position"}

Plans = dict[str, dict[str, Plan]]


@pytest.fixture(scope="module")
def sqlite_plans(tmp_path_factory: pytest.TempPathFactory) -> Plans:
    path = tmp_path_factory.mktemp("plans") / "pandora.db"
    try:
        return asyncio.run(plans_of(f"sqlite:///{path}", ARCHIVED, pytest.MonkeyPatch()))
    finally:
        path.unlink()  # half a gigabyte


@pytest.fixture(scope="module")
def postgres_plans(_databases: PostgresDatabases) -> Iterator[Plans]:
    with _databases.fresh() as dsn:
        yield asyncio.run(plans_of(dsn, ARCHIVED, pytest.MonkeyPatch()))


@pytest.fixture
def plans(dialect: str, request: pytest.FixtureRequest) -> Plans:
    """The plans of every hot query on this dialect, by the state they were made in."""
    if dialect == "postgres":
        request.getfixturevalue("postgres_databases")  # puts the server into the report
    found: Plans = request.getfixturevalue(f"{dialect}_plans")
    return found


def complaints(name: str, plan: Plan, dialect: str, state: str) -> list[str]:
    """What is wrong with the plan of the query `name`."""
    sorts = SORTS
    if dialect == "postgres":
        sorts = SORTS_WHEN_SHORT if state == "short" else SORTS_ON_POSTGRES
    one_row = state == "analysed" and name in MAY_SEEM_ONE
    wrong = [f"reads {scan}" for scan in plan.scans]
    wrong += [
        f"takes {index}" for index in plan.indexes - INDEXES[name] - (LIVE if one_row else set())
    ]
    if name != "insert_job" and not plan.indexes:
        wrong.append("takes no index")
    if plan.sorts and name not in sorts and not one_row:
        wrong.append("sorts")
    return wrong


def test_the_calls_cover_every_hot_query(plans: Plans) -> None:
    assert set(INDEXES) <= set(plans["short"])


@pytest.mark.parametrize("state", ["short", *BIG_STATES])
def test_every_hot_query_takes_its_index(plans: Plans, state: str, dialect: str) -> None:
    found = {name: complaints(name, plans[state][name], dialect, state) for name in INDEXES}

    assert not {name: wrong for name, wrong in found.items() if wrong}


@pytest.mark.parametrize("state", BIG_STATES)
def test_the_archive_costs_the_hot_queries_nothing(plans: Plans, state: str) -> None:
    # A thousand times the rows make a tree of pages two levels deeper. The rest of the leeway is
    # for dead rows, which every undone write of this very test leaves; a walk through the archive
    # costs fifty times as much.
    grown = {
        name: (before.cost, after.cost)
        for name, before in plans["short"].items()
        if (after := plans[state][name]).cost > 4 * before.cost + 60
    }

    assert not grown


async def test_a_missing_index_is_noticed(db_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await plans_of(db_url, 2 * SHORT, monkeypatch)
    async with JobDb.open(db_url) as db:
        driver = db._driver
        sqlite = db.dialect == "sqlite"
        engine = SqliteEngine(db_url) if sqlite else PostgresEngine(driver)
        async with driver.migrating() as migrator:
            dropped = ["idx_jobs_author", "idx_jobs_requested"]
            dropped += ["idx_jobs_active" if sqlite else "idx_jobs_ready"]
            for index in dropped:
                await migrator.run(f"DROP INDEX {index}")
        page = {"limit": 50, "offset": 0}
        asked = {"get_active_jobs": {}, "get_live_jobs": page, "get_jobs": page}
        async with engine.connection() as connection:
            for name, args in asked.items():
                plan = await connection.plan(Asked(driver.queries.get(name), args))
                assert complaints(name, plan, db.dialect, "fresh"), name
            query = driver.queries.get("get_user_history", frozenset({"by_name"}))
            plan = await connection.plan(Asked(query, {"author": "mika-1", "limit": 10}))
            assert complaints("get_user_history by_name", plan, db.dialect, "fresh")


OF_SOMEBODY = {
    "get_jobs": [{"author"}, {"archived", "author"}],
    "count_jobs": [{"author"}, {"archived", "author"}],
    "get_user_history": [{"by_name"}],
}


async def test_the_lists_of_an_author_are_no_slower_prepared_before_the_first_row(
    db_url: str,
) -> None:
    args = {"author": "author-5", "limit": 50, "offset": 0}
    async with JobDb.open(db_url) as db:
        driver = db._driver
        engine = SqliteEngine(db_url) if db.dialect == "sqlite" else PostgresEngine(driver)
        if isinstance(engine, PostgresEngine):
            await engine.keep_unanalysed()
        asked = [
            Asked(driver.queries.get(name, frozenset(when)), args)
            for name, variants in OF_SOMEBODY.items()
            for when in variants
        ]
        async with engine.connection() as kept:
            await kept.warm(asked)
            await fill_archive(db_url, 1, 2 * SHORT)
            plans = {one.name: await kept.plan(one) for one in asked}

    by_author = BY_ID | {"idx_jobs_author"}
    assert {name: plan.indexes - by_author for name, plan in plans.items()} == {
        name: set() for name in plans
    }
    assert not [name for name, plan in plans.items() if plan.sorts or plan.scans]
