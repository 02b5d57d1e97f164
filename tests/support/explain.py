"""How each engine runs a query: the indexes it takes, what it scans and sorts, what that costs."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.rows.growth import FIRST_LIVE
from pandora_db.drivers.sqlite.work import plain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from pandora_db.sqlfiles import Query

_BATCH = 20
# Tables of a few rows, which are read whole.
_SMALL = {"CONSTANT", "job_ids", "lease_tokens", "recovery_policies", "stage", "stages"}
_RUNS = 8  # PostgreSQL may settle on a generic plan from the sixth run on


@dataclass
class Plan:
    """How a query is run: `scans` without an index, `indexes` used, `sorts`, and what it costs.

    The cost is pages touched on PostgreSQL, steps of the virtual machine on SQLite.
    """

    scans: list[str] = field(default_factory=list)
    indexes: set[str] = field(default_factory=set)
    sorts: int = 0
    cost: int = 0


@dataclass
class Asked:
    """A query as a call ran it."""

    query: Query
    args: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the query, with the flags of its variant."""
        return " ".join([self.query.name, *sorted(self.query.flags)])

    def values(self, number: int) -> dict[str, Any]:
        """The arguments for the live job of that number, under an operation id of its own."""
        given = {"operation_id": str(uuid.uuid4()), "event_seq": 1}
        if self.args.get("job_id") is not None:
            given["job_id"] = FIRST_LIVE + 6 * number  # every sixth is queued
        args = self.args | {name: value for name, value in given.items() if name in self.args}
        return args | {"answered": "[]"}


class SqliteEngine:
    """A file, by a driver that is not ours, with the statement cache of ours."""

    def __init__(self, url: str) -> None:
        self._path = url.removeprefix("sqlite:///")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[SqliteConnection]:
        """A new connection."""
        raw = sqlite3.connect(self._path, isolation_level=None, cached_statements=256)
        with closing(raw):
            yield SqliteConnection(raw)


class SqliteConnection:
    """Keeps every statement that it ran prepared."""

    def __init__(self, raw: sqlite3.Connection) -> None:
        self._raw = raw

    async def warm(self, asked: Iterable[Asked]) -> None:
        """Prepare the queries now and run them often."""
        for one in asked:
            for number in range(_RUNS):
                self._run(one, number)

    async def plan(self, one: Asked) -> Plan:
        """The plan of the query, and its cost for one live job."""
        plan = Plan()
        args = plain(one.values(0))
        for statement in one.query.statements:
            lines = self._raw.execute(f"EXPLAIN QUERY PLAN {statement.text}", statement.bind(args))
            for *_, detail in lines.fetchall():
                read_line(detail, plan)
        self._run(one, 0)  # whatever is compiled at the first run
        plan.cost = self._run(one, 0)
        return plan

    async def analyse(self) -> None:
        """Collect the statistics that the library itself never asks for."""
        self._raw.execute("ANALYZE")

    def _run(self, one: Asked, number: int) -> int:
        steps = 0

        def step() -> int:
            nonlocal steps
            steps += 1
            return 0

        args = plain(one.values(number))
        self._raw.execute("BEGIN IMMEDIATE")
        self._raw.set_progress_handler(step, 1)
        try:
            for statement in one.query.statements:
                rows = self._raw.execute(statement.text, statement.bind(args)).fetchall()
                if rows:  # as the library hands them on
                    args = {**args, "answered": json.dumps([row[0] for row in rows])}
        finally:
            self._raw.set_progress_handler(None, 0)
            self._raw.execute("ROLLBACK")
        return steps


def read_line(detail: str, plan: Plan) -> None:
    """Add one line of EXPLAIN QUERY PLAN to `plan`."""
    if "USE TEMP B-TREE" in detail:
        plan.sorts += 1
    found = re.match(r"(SCAN|SEARCH) (?:main\.)?(\w+)(?: USING (?:COVERING )?INDEX (\w+))?", detail)
    if found is None:
        return
    verb, table, index = found.groups()
    if index:
        own = index.startswith("sqlite_autoindex_")
        plan.indexes.add("primary key" if own else index)
    elif "PRIMARY KEY" in detail:
        plan.indexes.add("primary key")
    elif verb == "SCAN" and "VIRTUAL TABLE" not in detail and table not in _SMALL:
        plan.scans.append(detail)


class PostgresEngine:
    """A database, over connections with the settings of the library's own."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[PostgresConnection]:
        """A new connection."""
        raw = await self._driver._connect()
        try:
            yield PostgresConnection(raw)
        finally:
            await raw.close()

    async def keep_unanalysed(self) -> None:
        """Keep autovacuum away, which would collect statistics at a moment of its own."""
        async with self.connection() as connection:
            await connection.execute(
                *(
                    f"ALTER TABLE {table} SET (autovacuum_enabled = off)"
                    for table in ("jobs", "job_lists", "job_events", "job_deletions")
                )
            )


class PostgresConnection:
    """Keeps every statement that it ran prepared, in the server too."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw
        self._prepared: dict[str, Any] = {}

    async def warm(self, asked: Iterable[Asked]) -> None:
        """Prepare the queries now and run them often."""
        for one in asked:
            await self._prepare(one)

    async def plan(self, one: Asked) -> Plan:
        """The plan of the query and its cost, for a batch where it takes one.

        Taken twice: as the server chooses between a general plan and one for these values, and
        with the general one, to which it may turn at any time.
        """
        statement = await self._prepare(one)
        values = ", ".join(map(_literal, _columns(one, range(_BATCH))))
        execute = f'EXECUTE "{statement.get_name()}"' + (f"({values})" if values else "")
        plan = Plan()
        for mode in ("auto", "force_generic_plan"):
            await self._raw.execute(f"SET plan_cache_mode = {mode}")
            async with _undone(self._raw):
                text = await self._raw.fetchval(
                    f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {execute}"
                )
            (found,) = json.loads(text)
            plan.cost = max(plan.cost, read_node(found["Plan"], plan))
        await self._raw.execute("RESET plan_cache_mode")
        return plan

    async def execute(self, *statements: str) -> None:
        """Run statements that answer nothing."""
        for statement in statements:
            await self._raw.execute(statement)

    async def analyse(self) -> None:
        """Collect statistics, as autovacuum does sooner or later."""
        await self._raw.execute("ANALYZE")

    async def _prepare(self, one: Asked) -> Any:
        text = one.query.text
        if text not in self._prepared:
            statement = self._prepared[text] = await self._raw.prepare(text)
            for number in range(_RUNS):
                async with _undone(self._raw):
                    await statement.fetch(*_columns(one, [number]))
        return self._prepared[text]


@asynccontextmanager
async def _undone(raw: Any) -> AsyncIterator[None]:
    transaction = raw.transaction()
    await transaction.start()
    try:
        yield
    finally:
        await transaction.rollback()


def _columns(one: Asked, numbers: Iterable[int]) -> list[Any]:
    """The values to bind: of one call, or an array of each of a batch."""
    bind = one.query.statements[0].bind
    if one.query.shape != "batch":
        return list(bind(one.values(0)))
    return [list(column) for column in zip(*(bind(one.values(n)) for n in numbers), strict=True)]


def _literal(value: object) -> str:
    """`value` as SQL that EXECUTE casts to the parameter's type."""
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return _literal("{" + ",".join(map(_element, value)) + "}")
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return str(value)


def _element(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, bytes):
        return json.dumps(f"\\x{value.hex()}")
    return "NULL" if value is None else str(value)


def read_node(node: dict[str, Any], plan: Plan) -> int:
    """Add a node of EXPLAIN and those below it to `plan`; returns the pages it touched."""
    kind, table = node["Node Type"], node.get("Relation Name")
    if (kind == "Seq Scan" and table not in _SMALL) or "Workers Planned" in node:
        plan.scans.append(f"{kind} on {table}")
    if node.get("Rows Removed by Filter", 0) > _BATCH * _BATCH:
        plan.scans.append(
            f"{kind} on {table} read {node['Rows Removed by Filter']} rows for nothing"
        )
    if kind in {"Sort", "Incremental Sort"}:
        plan.sorts += 1
    if name := node.get("Index Name"):
        plan.indexes.add("primary key" if name.endswith("_pkey") else name)
    below = [(child, read_node(child, plan)) for child in node.get("Plans", ())]
    pages = int(node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0))
    # A CTE that writes is run to its end by the statement, not by the node that it hangs on.
    return pages + sum(
        cost for child, cost in below if child.get("Subplan Name", "").startswith("CTE")
    )
