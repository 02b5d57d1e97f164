"""P11: migrations, the plan, and the check of what is there."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from pandora_db import (
    JobDb,
    SchemaChanged,
    SchemaMissing,
    SchemaTooNew,
    Stage,
    TaskStage,
    migrations,
)
from pandora_db.migrations import expected_schema, load_migrations
from pandora_db.models.stage import STAGES
from pandora_db.sqlfiles import sql_root
from pandora_db.testing import make_job
from tests.support.raw import Raw

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def test_init_schema_makes_everything_and_may_be_repeated(empty_url: str) -> None:
    async with JobDb.open(empty_url) as db:
        assert (await db.plan_schema()).pending
        await db.init_schema()
        job_id = await db.insert_job(make_job())
        await db.init_schema()

        assert await db.verify_schema() == []
        assert not (await db.plan_schema()).pending
        assert await db.get_job(job_id) is not None


async def test_init_schema_at_once_from_many_handles(empty_url: str) -> None:
    handles = [await JobDb.connect(empty_url) for _ in range(6)]

    await asyncio.gather(*(db.init_schema() for db in handles for _ in range(3)))

    ledger = Raw(empty_url)("SELECT version, name FROM pandora_migrations")
    assert ledger == [(one.version, one.name) for one in load_migrations(handles[0].dialect)]
    assert await handles[3].verify_schema() == []
    for db in handles:
        await db.close()


async def test_init_schema_names_the_stages_for_people(db: JobDb, raw: Raw) -> None:
    rows = raw("SELECT code, pipeline, name, kind, returns_to FROM stages ORDER BY code")

    assert [row[0] for row in rows] == [*Stage, *TaskStage]
    assert rows == [
        (info.code, info.pipeline, info.name, info.kind.value, info.returns_to)
        for info in STAGES.values()
    ]
    job_id = await db.insert_job(make_job(author="mika"))
    await db.update_stage(job_id, Stage.ENCODING)
    seen = raw("SELECT author, stage, kind FROM job_overview WHERE job_id = %s", job_id)
    assert seen == [("mika", "Encoding", "working")]


async def test_init_schema_fills_in_a_stage_that_is_missing(db: JobDb, raw: Raw) -> None:
    raw("DELETE FROM stages WHERE code = 9")
    assert [(one.kind, one.name) for one in await db.verify_schema()] == [("stage", "9")]

    await db.init_schema()

    assert await db.verify_schema() == []


METHODS: list[Callable[[JobDb], Awaitable[object]]] = [
    lambda db: db.get_job(1),
    lambda db: db.insert_job(make_job()),
    lambda db: db.insert_job(make_job(), max_active=5),
    lambda db: db.insert_jobs([make_job()]),
    lambda db: db.insert_jobs([make_job(external_id="a")]),
    lambda db: db.get_next_job_id(),
    lambda db: db.archive_job(1),
    lambda db: db.retry_job(1),
    lambda db: db.history(1),
    lambda db: db.count_jobs(),
]


async def test_without_a_schema_every_call_says_what_to_do(empty_url: str) -> None:
    async with JobDb.open(empty_url) as db:
        for method in METHODS:
            with pytest.raises(SchemaMissing, match=r"[^:]; call init_schema\(\) first$"):
                await method(db)
        assert [one.kind for one in await db.verify_schema()] == ["schema"]
        health = await db.health()
        assert (health.schema_version, health.ok) == (None, False)


async def test_plan_schema_prints_what_would_be_done_and_does_nothing(empty_url: str) -> None:
    async with JobDb.open(empty_url) as db:
        plan = await db.plan_schema()

        assert (plan.current, plan.target) == (0, len(load_migrations(db.dialect)))
        text = str(plan)
        assert f"{db.dialect}: schema 0 → {plan.target}" in text
        assert "0001 0001_jobs" in text or "0001 jobs" in text
        assert "locks " in text
        assert "CREATE UNIQUE INDEX idx_jobs_external" in text
        assert await db.verify_schema() != []
        assert "pandora_migrations" not in tables(empty_url)

        await db.init_schema()
        assert str(await db.plan_schema()) == f"{db.dialect}: schema 1 is current, nothing to do"


def tables(url: str) -> set[str]:
    if url.startswith("sqlite"):
        found = Raw(url)("SELECT name FROM sqlite_master")
    else:
        found = Raw(url)("SELECT relname::text FROM pg_class")
    return {name for (name,) in found}


async def test_plan_schema_estimates_by_the_size_of_an_adopted_table(postgres_dsn: str) -> None:
    raw = Raw(postgres_dsn)
    raw(
        "CREATE TABLE jobs (job_id BIGINT PRIMARY KEY, author TEXT, requested_at BIGINT, "
        "job_type SMALLINT, preset SMALLINT, preset_concat SMALLINT, link TEXT, directory TEXT, "
        "ready SMALLINT, message_id BIGINT, channel_id BIGINT, created_at TIMESTAMP, "
        "completed_at TIMESTAMP, archived BOOLEAN)"
    )
    async with JobDb.open(postgres_dsn) as db:
        small = (await db.plan_schema()).steps[0].estimated_lock_seconds
        raw("INSERT INTO jobs SELECT n, 'author' FROM generate_series(1, 20000) AS n")
        raw("ANALYZE jobs")
        large = (await db.plan_schema()).steps[0]

    assert small < 0.01
    assert 0.05 < large.estimated_lock_seconds < 10
    assert "jobs" in large.lock


async def test_a_schema_from_the_future_is_refused_at_once(
    db: JobDb, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pandora_db")
    known = len(load_migrations(db.dialect))
    raw(
        "INSERT INTO pandora_migrations (version, name, checksum) VALUES (%s, 'later', 'x')",
        known + 1,
    )

    with pytest.raises(SchemaTooNew, match="upgrade pandora_db") as caught:
        await JobDb.connect(raw.url)
    assert (caught.value.found, caught.value.known) == (known + 1, known)
    assert "refused to start" in caplog.text
    with pytest.raises(SchemaTooNew):
        await db.init_schema()
    with pytest.raises(SchemaTooNew):
        await db.plan_schema()


async def test_an_applied_migration_that_was_changed_is_named(db: JobDb, raw: Raw) -> None:
    raw("UPDATE pandora_migrations SET checksum = 'x'")

    with pytest.raises(SchemaChanged, match="0001_jobs"):
        await db.init_schema()
    with pytest.raises(SchemaChanged, match="0001_jobs"):
        await db.plan_schema()


async def test_a_migration_that_fails_leaves_nothing(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with JobDb.open(empty_url) as db:
        (first,) = load_migrations(db.dialect)
        broken = migrations.Migration(1, first.name, first.text + ";\nSELECT nonsense FROM nowhere")
        monkeypatch.setattr(migrations, "load_migrations", lambda _: (broken,))
        with pytest.raises(SchemaMissing, match="nowhere"):
            await db.init_schema()
        assert not tables(empty_url) & {"jobs", "pandora_migrations", "job_events"}

        monkeypatch.undo()
        await db.init_schema()
        assert await db.verify_schema() == []


async def test_schema_txt_is_what_the_migrations_make(db: JobDb) -> None:
    """Regenerate: write what `migrations.describe` answers to sql/<dialect>/schema.txt."""
    made = migrations.describe(await db._driver.read("describe_schema", {}))

    shipped = (sql_root() / db.dialect / "schema.txt").read_text("utf-8")
    assert made.splitlines() == shipped.splitlines()
    kinds = {kind for kind, _ in expected_schema(db.dialect)}
    assert kinds >= {"column", "index", "trigger"}


def drop(dialect: str, kind: str, name: str) -> str | None:
    """A statement that takes one thing of the schema away; None where the engine has none."""
    table, _, part = name.partition(".")
    if kind == "column" and dialect == "sqlite" and part in KEYS.get(table, ()):
        return None  # SQLite keeps the columns of a primary key
    if kind == "check" and dialect == "sqlite":
        return (
            None  # no statement of SQLite does; tests/dialect/test_schema_sqlite.py edits them out
        )
    on_table = f"DROP TRIGGER {part} ON {table}"
    return {
        "index": f"DROP INDEX {name}",
        "view": f"DROP VIEW {name}",
        "trigger": on_table if dialect == "postgres" else f"DROP TRIGGER {name}",
        "check": f"ALTER TABLE {table} DROP CONSTRAINT {part}",
        "function": f"DROP FUNCTION {name}",
        "primary key": f"ALTER TABLE {name} DROP CONSTRAINT {name}_pkey",
        "column": f"ALTER TABLE {table} DROP COLUMN {part}",
    }[kind]


KEYS = {
    "jobs": ("job_id",),
    "job_events": ("job_id", "seq", "event_id"),
    "job_deletions": ("deletion_id",),
    "job_ids": ("only_row",),
    "job_checkpoints": ("job_id", "stage", "seq", "part"),
    "job_children": ("parent_id", "key"),
    "job_logs": ("job_id", "seq"),
    "lease_tokens": ("only_row",),
    "recovery_policies": ("scope", "key"),
    "stages": ("code",),
    "pandora_migrations": ("version",),
}
ORDER = ["view", "trigger", "function", "index", "check", "primary key", "column"]
HELD_TOGETHER = {"pandora_migrations", "stages"}  # verify_schema itself reads them


async def test_verify_schema_names_whatever_was_dropped(db: JobDb, raw: Raw) -> None:
    """One thing after the other; each must add its own line, and nothing may be overlooked."""
    expected = expected_schema(db.dialect)
    named: set[tuple[str, str]] = set()
    dropped = 0
    for kind in ORDER:
        for (found, name), definition in expected.items():
            if found != kind or name.split(".")[0] in HELD_TOGETHER:
                continue
            statement = drop(db.dialect, kind, name)
            if statement is None:
                continue
            assert (kind, name) not in named, "something else took it along"
            raw(statement)
            differences = {(one.kind, one.name): one for one in await db.verify_schema()}
            assert (kind, name) in differences, statement
            assert f"{kind} {name} is missing" in str(differences[kind, name])
            assert differences[kind, name].expected == definition
            named = set(differences)
            dropped += 1
    assert dropped > 50


async def test_verify_schema_names_what_was_changed(db: JobDb, raw: Raw) -> None:
    raw("DROP INDEX idx_jobs_archived")
    raw("CREATE INDEX idx_jobs_archived ON jobs (completed_at)")

    (difference,) = await db.verify_schema()

    assert (difference.kind, difference.name) == ("index", "idx_jobs_archived")
    assert re.search(
        r"differs: expected .*completed_at.*, job_id.*, found .*\(completed_at\)", str(difference)
    )


async def test_verify_schema_does_not_mind_additions(db: JobDb, raw: Raw) -> None:
    raw("CREATE TABLE orders (customer TEXT)")
    raw("CREATE INDEX mine ON jobs (link)")

    assert await db.verify_schema() == []


async def test_settings_and_dialect_tell_what_the_handle_is(db: JobDb, dialect: str) -> None:
    assert db.dialect == dialect
    assert db.settings.pool_max == 10
    assert repr(db).startswith(f"<JobDb {dialect} ")
