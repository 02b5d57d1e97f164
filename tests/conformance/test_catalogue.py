"""Holds the two SQL folders, the package and the migrated schema together."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import asyncpg
import pytest

import pandora_db
from pandora_db import JobDb, JobRow, JobStatus, Stage
from pandora_db.codecs.job import JOB_COLUMNS
from pandora_db.drivers.sqlite.crowd import make_crowds
from pandora_db.dsn import PostgresTarget, parse_dsn
from pandora_db.sqlfiles import Catalogue, Dialect, Query, sql_root
from pandora_db.store import job_queries
from pandora_db.store.job_queries import JobFilters

if TYPE_CHECKING:
    from collections.abc import Iterator

DIALECTS: tuple[Dialect, ...] = get_args(Dialect)
CATALOGUES = {
    "sqlite": Catalogue("sqlite", "main"),
    "postgres": Catalogue("postgres", '"public"'),
}
# What one engine needs and the other has not; every line says why.
ONE_DIALECT_ONLY = {
    "sqlite": {
        "load_jobs",  # COPY, on PostgreSQL, has no text
        "record_inserted",  # what a crowd of inserts leaves
        "last_reserved_id",  # a sequence of PostgreSQL is not rolled back
        "keep_reserved_ids",
        "next_job_id",  # a crowd of inserts is numbered before it is stored
        "make_crowds",  # and crowds of changes go through a view of their own in one statement
        "update_stages",
        "end_claims",
        "whole",  # a trigger of PostgreSQL cannot keep half of a statement
    },
    "postgres": {
        "ping",  # SQLite's is a hop into the thread
        "notify",  # handles of one process ring each other; other processes look at the file
        "current_transaction",  # a COMMIT inside the process has no answer to lose
        "transaction_status",
        "backend",
        "end_backend",
        "array_types",  # SQLite has none
        "lock_schema",  # BEGIN IMMEDIATE is the lock
        "insert_jobs_alike",  # a crowd of inserts of one kind; SQLite stores any by load_jobs
        "server_facts",  # SQLite tells them by PRAGMA, which is no query
    },
}


# Parts of queries that both have.
LOCAL_FRAGMENTS = {
    "now", "next_id", "insert_begun", "insert_recorded", "claim_recorded", "claim_ended", "leases",
    "lower_event", "lower_deletion", "upper_event", "upper_deletion", "last_event", "last_deletion",
    "mark_up_to_edge", "tx_is_ours", "list_filters", "live_filters", "row_filters", "time_filters",
    "job_page", "live_page",
}  # fmt: skip

# What its statements hand on to the next, and what keeps its tokens apart after a rollback.
SQLITES_OWN = {"answered", "salt"}


def queries_in(path: Path) -> dict[str, str]:
    """Name → header of the queries and fragments of a file."""
    headers = re.findall(r"^-- (?:name|fragment): (\w+).*$", path.read_text("utf-8"), re.MULTILINE)
    return dict.fromkeys(headers, path.name)


def test_both_folders_have_the_same_files() -> None:
    one, other = (
        {str(path.relative_to(sql_root() / dialect)) for path in (sql_root() / dialect).rglob("*")}
        for dialect in DIALECTS
    )

    assert one == other
    assert "migrations/0001_jobs.sql" in one


def test_both_folders_have_the_same_queries_in_the_same_files() -> None:
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for dialect in DIALECTS:
        for path in (sql_root() / dialect).glob("*.sql"):
            for name, file in queries_in(path).items():
                found[dialect][name] = file
    for dialect, other in (("sqlite", "postgres"), ("postgres", "sqlite")):
        alone = {name for name, file in found[dialect].items() if found[other].get(name) != file}
        private = ONE_DIALECT_ONLY[dialect]
        assert alone - private <= LOCAL_FRAGMENTS, dialect
        assert private <= alone, "the allow-list names what is not there"
        assert {found[dialect][name] for name in private} <= {"engine.sql"}


@pytest.mark.parametrize("name", sorted(set(CATALOGUES["sqlite"]) & set(CATALOGUES["postgres"])))
def test_a_query_asks_for_the_same_on_both_dialects(name: str) -> None:
    one, other = CATALOGUES["sqlite"], CATALOGUES["postgres"]
    flags = one.flags(name)

    assert flags == other.flags(name)
    for when in (frozenset[str](), flags, *map(frozenset, ([flag] for flag in flags))):
        mine, theirs = one.get(name, when), other.get(name, when)
        assert mine.shape == theirs.shape
        assert mine.parameters - SQLITES_OWN == theirs.parameters, when


def test_a_pooler_is_asked_once_for_every_array_type() -> None:
    asked = CATALOGUES["postgres"].get("array_types").text
    folder = sql_root() / "postgres"
    used = {
        name
        for path in folder.glob("*.sql")
        for name in re.findall(r"::([a-z0-9_]+\[\])", path.read_text("utf-8"))
    }

    assert "bigint[]" in used
    assert set(re.findall(r"::([a-z0-9_]+\[\])", asked)) == used


def test_every_query_is_used_and_every_name_that_is_used_exists() -> None:
    known = set(CATALOGUES["sqlite"]) | set(CATALOGUES["postgres"])
    mentioned: set[str] = set()
    called: set[str] = set()
    for path in Path(inspect.getfile(pandora_db)).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                mentioned.add(node.value)
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                called |= set(_query_names(node))

    assert known - mentioned == set(), "no code uses them"
    assert called - known == set(), "no file has them"
    assert len(called) > 20


RUNNING = (
    "read", "write", "write_each", "write_all", "find_outcome", "take", "_jobs", "_value",
)  # fmt: skip


def _query_names(call: ast.Call) -> Iterator[str]:
    """The name of the query that a call of the session or the catalogue runs."""
    assert isinstance(call.func, ast.Attribute)
    runs = call.func.attr in RUNNING or (
        call.func.attr == "get"
        and isinstance(call.func.value, ast.Attribute | ast.Name)
        and ast.unparse(call.func.value).endswith("queries")
    )
    first = call.args[0] if runs and call.args else None
    if isinstance(first, ast.Constant) and isinstance(first.value, str):
        yield first.value


FILTER_VALUES: dict[str, list[Any]] = {
    "stage": [None, Stage.QUEUED],
    "status": [None, *JobStatus],
    "author": [None, "mika"],
    "author_id": [None, 1],
    "guild_id": [None, 1],
    "job_type": [None, 1],
    "since": [None, 1],
    "until": [None, 1],
    "archived": [None, True, False],
}


def combinations_of_filters() -> set[tuple[str, frozenset[str]]]:
    """Queries and flags of every call that `get_jobs`, `count_jobs` and `iter_jobs` can make."""
    selected = [
        job_queries._select(dict(zip(FILTER_VALUES, values, strict=True)))
        for values in itertools.product(*FILTER_VALUES.values())
    ]
    return {(name, when) for queries, _, when in selected for name in queries}


def variants(catalogue: Catalogue) -> Iterator[Query]:
    """Every query in every combination of flags that the stores and drivers can ask for."""
    filtered: dict[str, set[frozenset[str]]] = defaultdict(set)
    for name, when in combinations_of_filters():
        filtered[name].add(when)
    for name in catalogue:
        if name in filtered:
            places = ({"after"}, {"after_null"}) if name.startswith("get") else ()
            chosen = filtered[name] | {when | place for when in filtered[name] for place in places}
        elif name == "get_user_history":
            chosen = {frozenset({"by_name"}), frozenset({"by_id"})}
        else:
            flags = sorted(catalogue.flags(name))
            chosen = {
                frozenset(some)
                for length in range(len(flags) + 1)
                for some in itertools.combinations(flags, length)
            }
            if name == "claim_jobs":  # for so many jobs at most
                sizes = {"one", "hundred", "thousand"}
                chosen = {when for when in chosen if len(when & sizes) == 1}
        for when in chosen:
            yield catalogue.get(name, when)


def test_the_combinations_cover_every_filter_and_every_flag() -> None:
    assert set(FILTER_VALUES) == set(JobFilters.__annotations__)
    used: dict[str, frozenset[str]] = defaultdict(frozenset)
    for name, when in combinations_of_filters():
        used[name] |= when
    assert len(used) == 4
    for catalogue in CATALOGUES.values():
        for name, flags in used.items():
            places = {"after", "after_null"} if name.startswith("get") else set[str]()
            assert flags | places == catalogue.flags(name)


async def test_every_query_is_accepted_by_the_migrated_schema(db: JobDb, db_url: str) -> None:
    """Each variant is prepared, not run; the ledger's own DDL where the ledger is not yet."""
    count = 0
    if db.dialect == "sqlite":
        assert db._target.path is not None
        with closing(sqlite3.connect(db._target.path)) as connection:
            make_crowds(connection.cursor(), CATALOGUES["sqlite"])
            for query in variants(CATALOGUES["sqlite"]):
                for statement in query.statements:
                    count += 1
                    if query.name != "create_ledger":  # SQLite looks whether the table is there
                        values = [None] * len(statement.parameters)
                        connection.execute(f"EXPLAIN {statement.text}", values)
    else:
        target = parse_dsn(db_url)
        assert isinstance(target, PostgresTarget)
        arguments = target.connect_arguments()
        connection = await asyncpg.connect(**arguments, statement_cache_size=0)
        try:
            for query in variants(CATALOGUES["postgres"]):
                for statement in query.statements:
                    count += 1
                    try:
                        prepared = await connection.prepare(statement.text, timeout=30)
                    except asyncpg.PostgresError as error:
                        raise AssertionError(
                            f"{query.name} {sorted(query.flags)}: {error}"
                        ) from error
                    assert len(prepared.get_parameters()) == len(statement.parameters)
                    if query.shape != "script":
                        answers = bool(prepared.get_attributes())
                        assert answers == (query.shape != "none"), query.name
        finally:
            await connection.close()
    assert count > 3000


async def test_columns_of_jobs_come_in_the_order_of_job_row(db: JobDb, db_url: str) -> None:
    query = CATALOGUES[db.dialect].get("get_job")
    if db.dialect == "sqlite":
        assert db._target.path is not None
        with closing(sqlite3.connect(db._target.path)) as connection:
            cursor = connection.execute(query.text, [1])
            names = [column[0] for column in cursor.description]
    else:
        target = parse_dsn(db_url)
        assert isinstance(target, PostgresTarget)
        other = await asyncpg.connect(**target.connect_arguments())
        prepared = await other.prepare(query.text)
        names = [attribute.name for attribute in prepared.get_attributes()]
        await other.close()

    assert tuple(names) == JobRow._fields


@pytest.mark.parametrize("dialect", DIALECTS)
def test_insert_job_takes_what_encode_job_makes(dialect: Dialect) -> None:
    query = CATALOGUES[dialect].get("insert_job")

    assert query.parameters == {*JOB_COLUMNS, "operation_id"}


def test_load_jobs_takes_the_columns_in_the_order_of_job_row() -> None:
    (statement,) = CATALOGUES["sqlite"].get("load_jobs").statements

    assert statement.parameters == (*JOB_COLUMNS, "created_at", "updated_at")
