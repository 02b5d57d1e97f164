"""P11 on PostgreSQL: rights, disabled triggers, TRUNCATE, and schemas other than public."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pandora_db import JobDb, LockTimeout, MissingPrivilege, PandoraDbError, Stage
from pandora_db.testing import make_job
from tests.support.raw import Raw

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def limited_url(url: str) -> Iterator[str]:
    """As a role that may read and write rows, and nothing else."""
    role, password = f"pandora_{secrets.token_hex(4)}", secrets.token_hex(8)
    raw = Raw(url)
    raw(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    raw(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
    raw(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}")
    raw("REVOKE CREATE ON SCHEMA public FROM public")
    yield make_conninfo(url, user=role, password=password)
    raw(f"DROP OWNED BY {role}")
    raw(f"DROP ROLE {role}")


async def test_a_role_without_ddl_rights_may_call_init_schema(limited_url: str) -> None:
    async with JobDb.open(limited_url) as db:
        await db.init_schema()
        assert await db.verify_schema() == []
        job_id = await db.insert_job(make_job())
        (bulk,) = await db.insert_jobs([make_job()])
        await db.update_stage(job_id, Stage.ENCODING)
        await db.archive_job(bulk)
        await db.delete_job(job_id)
        assert len(await db.history(bulk)) == 2
    with (
        psycopg.connect(limited_url) as theirs,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        theirs.execute("CREATE TABLE t (a TEXT)")


async def test_a_right_that_is_missing_is_named(limited_url: str, url: str) -> None:
    Raw(url)(f"REVOKE UPDATE ON jobs FROM {conninfo_to_dict(limited_url)['user']}")
    async with JobDb.open(limited_url) as db:
        job_id = await db.insert_job(make_job())
        with pytest.raises(MissingPrivilege, match=r"the role lacks a right .*permission denied"):
            await db.archive_job(job_id)


async def test_a_repeated_init_schema_issues_no_ddl(url: str) -> None:
    raw = Raw(url)
    raw(
        "CREATE FUNCTION no_ddl() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE 'DDL was issued'; END $$"
    )
    raw("CREATE EVENT TRIGGER no_ddl ON ddl_command_start EXECUTE FUNCTION no_ddl()")
    with pytest.raises(psycopg.errors.RaiseException):
        raw("CREATE TABLE t (a TEXT)")

    async with JobDb.open(url) as db:
        for _ in range(3):
            await db.init_schema()
            await db.plan_schema()


@pytest.mark.parametrize("table", ["jobs", "job_events", "jobs, job_events"])
async def test_truncate_is_refused(url: str, table: str) -> None:
    async with JobDb.open(url) as db:
        job_id = await db.insert_job(make_job())
        with pytest.raises(psycopg.Error, match="permanent log"):
            Raw(url)(f"TRUNCATE {table} CASCADE")
        assert len(await db.history(job_id)) == 1


async def test_a_disabled_trigger_is_named(url: str) -> None:
    Raw(url)("ALTER TABLE jobs DISABLE TRIGGER jobs_record_update")

    async with JobDb.open(url) as db:
        (difference,) = await db.verify_schema()

    assert difference.name == "jobs.jobs_record_update"
    assert "DISABLED" in str(difference)


async def test_a_function_that_was_changed_is_named(url: str) -> None:
    Raw(url)(
        "CREATE OR REPLACE FUNCTION jobs_keep_id() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RETURN NEW; END $$"
    )

    async with JobDb.open(url) as db:
        (difference,) = await db.verify_schema()

    assert (difference.kind, difference.name) == ("function", "jobs_keep_id")


async def test_the_lists_hold_each_job_once_by_whichever_way_it_came(url: str) -> None:
    raw = Raw(url)
    async with JobDb.open(url) as db:
        kept = await db.insert_job(make_job(author_id=1, guild_id=2))
        await asyncio.gather(*(db.insert_job(make_job(author_id=n)) for n in range(50)))
        await db.insert_jobs(make_job(author_id=n) for n in range(50))  # by COPY
        given = [make_job(job_id=10**6 + 7 * n, guild_id=n) for n in range(50)]
        await db.insert_jobs(given)
        await db.insert_jobs(make_job(idempotency_key=f"key-{n}") for n in range(50))
        raw("INSERT INTO jobs (job_id, author, ready) VALUES (900, 'theirs', 0), (901, NULL, 0)")
        await asyncio.gather(*(db.delete_job(one.job_id or 0) for one in given[:10]))
        raw("DELETE FROM jobs WHERE job_id = 901")
        raw("UPDATE jobs SET author = 'theirs', guild_id = 3 WHERE job_id % 7 = 0")
        raw("CREATE TABLE copies AS SELECT * FROM jobs WHERE job_id BETWEEN 1 AND 5")
        raw("UPDATE copies SET job_id = job_id + 5000, author = 'copied'")
        raw("INSERT INTO jobs SELECT * FROM copies")
        assert await db.count_jobs(author="copied") == 5
        await db.update_job(kept, author_id=None, guild_id=5)

    assert _listed(raw) == _of_jobs(raw)
    assert len(_listed(raw)) == 1 + 50 + 50 + 40 + 50 + 1 + 5


def _of_jobs(raw: Raw) -> list[tuple[object, ...]]:
    return raw("SELECT job_id, author, author_id, guild_id, requested_at FROM jobs ORDER BY job_id")


def _listed(raw: Raw) -> list[tuple[object, ...]]:
    return raw(
        "SELECT job_id, by_author, by_author_id, by_guild_id, by_request FROM job_lists "
        "ORDER BY job_id"
    )


NORMALISES = """
    CREATE FUNCTION normalise() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN NEW.author := upper(NEW.author); RETURN NEW; END $$;
    CREATE TRIGGER zz_normalise BEFORE INSERT OR UPDATE ON jobs
    FOR EACH ROW EXECUTE FUNCTION normalise()
"""
NORMALISES_LATER = """
    CREATE FUNCTION normalise() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE jobs SET author = upper(author)
        WHERE job_id = NEW.job_id AND author <> upper(author);
        DELETE FROM jobs WHERE job_id = NEW.job_id AND author = 'SPAM';
        RETURN NULL;
    END $$;
    CREATE TRIGGER aa_normalise AFTER INSERT OR UPDATE ON jobs
    FOR EACH ROW EXECUTE FUNCTION normalise()
"""


@pytest.mark.parametrize("trigger", [NORMALISES, NORMALISES_LATER], ids=["before", "after"])
async def test_what_a_trigger_of_somebody_else_makes_of_an_author_is_listed(
    url: str, trigger: str
) -> None:
    raw = Raw(url)
    async with JobDb.open(url) as db:
        before = await db.insert_job(make_job(author="mika"))
        raw.script(trigger)
        await db.insert_job(make_job(author="rin"))
        await db.insert_jobs([make_job(author="ines")])
        await db.archive_job(before)
        raw("INSERT INTO jobs (job_id, author) VALUES (900, 'noor'), (901, 'noor')")
        raw("UPDATE jobs SET author = 'tove' WHERE job_id = 901")
        raw("INSERT INTO jobs (job_id, author) VALUES (902, 'spam')")

        assert _listed(raw) == _of_jobs(raw)
        for author in ("MIKA", "RIN", "INES", "NOOR", "TOVE"):
            assert await db.count_jobs(author=author) == 1


async def test_a_job_that_is_changed_by_the_statement_that_stores_it_is_listed(url: str) -> None:
    raw = Raw(url)
    raw.script("""
        CREATE FUNCTION rename(job bigint) RETURNS bigint LANGUAGE plpgsql AS $$
        BEGIN UPDATE jobs SET author = 'rin' WHERE job_id = job; RETURN job; END $$
    """)
    raw("""
        WITH stored AS (INSERT INTO jobs (job_id, author) VALUES (1, 'mika') RETURNING job_id)
        SELECT rename(job_id) FROM stored
    """)

    assert _listed(raw) == _of_jobs(raw)


async def test_a_single_insert_after_a_bulk_insert_looks_up_one_row(url: str) -> None:
    """A trigger's plan is kept: one that is made for many rows would read the whole table."""
    with psycopg.connect(url, autocommit=True) as theirs:
        insert = """
            INSERT INTO jobs (job_id, author)
            SELECT n, 'mika' FROM generate_series(%s::bigint, %s::bigint) AS n
        """
        theirs.execute(insert.encode(), [1, 20_000])
        theirs.execute("VACUUM (ANALYZE) jobs")
        theirs.execute(insert.encode(), [20_001, 40_000])
        looked = "SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE relname = 'jobs'"
        with theirs.transaction():
            (before,) = theirs.execute(looked.encode()).fetchall()
            theirs.execute(insert.encode(), [40_001, 40_001])
            (after,) = theirs.execute(looked.encode()).fetchall()

    assert after == (before[0], before[1] + 1)


async def test_rows_that_were_loaded_before_their_jobs_are_no_obstacle(url: str) -> None:
    """As by pg_restore --data-only, table by table in the order of their names."""
    raw = Raw(url)
    raw("INSERT INTO job_lists (job_id, by_author) VALUES (7, 'mika')")
    raw("INSERT INTO jobs (job_id, author) VALUES (7, 'mika'), (8, 'rin')")

    assert _listed(raw) == _of_jobs(raw)


async def test_a_role_that_may_write_jobs_alone_changes_the_lists_too(url: str) -> None:
    role, raw = f"pandora_{secrets.token_hex(4)}", Raw(url)
    raw(f"CREATE ROLE {role} LOGIN PASSWORD '{role}'")
    raw(f"GRANT SELECT, INSERT, UPDATE, DELETE ON jobs TO {role}")
    theirs = Raw(make_conninfo(url, user=role, password=role))
    try:
        theirs("INSERT INTO jobs (job_id, author, ready) VALUES (1, 'mika', 0), (2, 'mika', 0)")
        theirs("UPDATE jobs SET author = 'rin' WHERE job_id = 1")
        theirs("DELETE FROM jobs WHERE job_id = 2")
    finally:
        raw(f"DROP OWNED BY {role}")
        raw(f"DROP ROLE {role}")

    assert raw("SELECT job_id, by_author FROM job_lists") == [(1, "rin")]


async def test_two_schemas_of_one_database_know_nothing_of_each_other(postgres_dsn: str) -> None:
    async with (
        JobDb.open(postgres_dsn, schema="one") as one,
        JobDb.open(postgres_dsn, schema="other") as other,
    ):
        await one.init_schema()
        await other.init_schema()
        assert [await one.insert_job(make_job()) for _ in range(3)] == [1, 2, 3]
        assert await other.insert_job(make_job()) == 1
        await one.delete_job(1)
        assert [len(await db.history(1)) for db in (one, other)] == [1, 1]
        assert await other.verify_schema() == []
    made = Raw(postgres_dsn)(
        "SELECT DISTINCT relnamespace::regnamespace::text FROM pg_class "
        "WHERE relname IN ('jobs', 'stages', 'job_overview') ORDER BY 1"
    )
    assert made == [("one",), ("other",)]


async def test_a_table_that_stays_locked_is_given_up_in_time(postgres_dsn: str) -> None:
    """Adoption needs the table for itself, but must not stop its users for ever."""
    with psycopg.connect(postgres_dsn) as theirs:
        theirs.execute(
            "CREATE TABLE jobs (job_id BIGINT PRIMARY KEY, author TEXT, requested_at BIGINT, "
            "job_type SMALLINT, preset SMALLINT, preset_concat SMALLINT, link TEXT, "
            "directory TEXT, ready SMALLINT, message_id BIGINT, channel_id BIGINT, "
            "created_at TIMESTAMP, completed_at TIMESTAMP, archived BOOLEAN)"
        )
        theirs.commit()
        theirs.execute("SELECT count(*) FROM jobs")
        async with JobDb.open(postgres_dsn, lock_timeout=0.3) as db:
            with pytest.raises(LockTimeout, match="lock_timeout"):
                await db.init_schema()
            theirs.rollback()
            await db.init_schema()
            assert await db.verify_schema() == []


async def test_an_operation_that_breaks_the_transaction_is_not_taken_for_a_commit(
    url: str,
) -> None:
    """PostgreSQL answers COMMIT of a failed transaction with a rollback, and no error."""
    async with JobDb.open(url, lock_timeout=0.2) as db:
        job_id = await db.insert_job(make_job())
        with psycopg.connect(url) as theirs:
            theirs.execute(f"UPDATE jobs SET link = 'x' WHERE job_id = {job_id}")

            async def swallows() -> None:
                async with db.transaction() as tx:
                    await tx.insert_job(make_job(author="lost"))
                    with pytest.raises(LockTimeout):
                        await tx.archive_job(job_id)

            with pytest.raises(PandoraDbError, match="run it again"):
                await swallows()
        assert await db.count_jobs(author="lost") == 0
