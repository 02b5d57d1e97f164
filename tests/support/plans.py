"""The plans that the engines make for the calls of a bot, beside archives of growing length."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.archive import fill_archive
from benchmarks.rows.growth import Bot
from pandora_db import JobDb
from pandora_db.drivers.base import REPEATED
from pandora_db.drivers.postgres import driver as postgres_driver
from pandora_db.drivers.postgres import transaction as postgres_transaction
from pandora_db.drivers.sqlite import driver as sqlite_driver
from pandora_db.drivers.sqlite import transaction as sqlite_transaction
from tests.support.explain import Asked, Plan, PostgresEngine, SqliteEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

SHORT = 1_000
_SESSIONS = (
    (postgres_driver, "PostgresDriver"),
    (postgres_transaction, "PostgresTransaction"),
    (sqlite_driver, "SqliteDriver"),
    (sqlite_transaction, "SqliteTransaction"),
)


@contextmanager
def recorded(monkeypatch: pytest.MonkeyPatch, queries: Any) -> Iterator[dict[str, Asked]]:
    """Collect every query that is run inside the block, once for each variant."""
    asked: dict[str, Asked] = {}

    def keep(name: str, args: dict[str, Any], flags: frozenset[str]) -> None:
        for when in (flags, flags | (queries.flags(name) & REPEATED)):
            one = Asked(queries.get(name, when), dict(args))
            asked[one.name] = one

    def reading(inner: Any) -> Any:
        async def read(self: Any, name: str, args: Any, when: Any = frozenset()) -> Any:
            keep(name, args, when)
            return await inner(self, name, args, when)

        return read

    def writing(inner: Any) -> Any:
        async def write(self: Any, name: str, args: Any, key: Any, **options: Any) -> Any:
            keep(name, args, frozenset())
            return await inner(self, name, args, key, **options)

        return write

    def taking(inner: Any) -> Any:
        async def take(
            self: Any, name: str, args: Any, when: Any = frozenset(), **options: Any
        ) -> Any:
            keep(name, args, when)
            return await inner(self, name, args, when, **options)

        return take

    with monkeypatch.context() as patch:
        for module, session in _SESSIONS:
            kind = getattr(module, session)
            patch.setattr(kind, "read", reading(kind.read))
            patch.setattr(kind, "write", writing(kind.write))
            patch.setattr(kind, "take", taking(kind.take))
        yield asked


async def plans_of(
    url: str, archived: int, monkeypatch: pytest.MonkeyPatch
) -> dict[str, dict[str, Plan]]:
    """The plans of every hot query of the empty database at `url`, by the state they were made in.

    - `short`: 1,000 archived jobs
    - `kept`: `archived` of them, never analysed, on a connection that prepared the query when the
      table was empty and has run it often
    - `fresh`: the same on a new connection
    - `analysed`: the same after ANALYZE
    """
    async with JobDb.open(url) as db:
        await db.init_schema()
        bot = Bot(db)
        driver: Any = db._driver
        engine = SqliteEngine(url) if db.dialect == "sqlite" else PostgresEngine(driver)
        if isinstance(engine, PostgresEngine):
            await engine.keep_unanalysed()
        await bot.fill()
        with recorded(monkeypatch, driver.queries) as asked:
            await bot.warm()
        while jobs := await db.get_active_jobs():
            for job in jobs:
                await db.delete_job(job.job_id)
        plans: dict[str, dict[str, Plan]] = {}
        async with engine.connection() as kept:
            await kept.warm(asked.values())
            await fill_archive(url, 1, SHORT)
            await bot.fill()
            plans["short"] = await _on_a_new(engine, asked)
            await fill_archive(url, SHORT + 1, archived)
            plans["kept"] = {name: await kept.plan(one) for name, one in asked.items()}
            plans["fresh"] = await _on_a_new(engine, asked)
            await kept.analyse()
            plans["analysed"] = await _on_a_new(engine, asked)
        return plans


async def _on_a_new(
    engine: SqliteEngine | PostgresEngine, asked: dict[str, Asked]
) -> dict[str, Plan]:
    async with engine.connection() as connection:
        return {name: await connection.plan(one) for name, one in asked.items()}
