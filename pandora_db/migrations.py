"""Numbered migrations: each once, in a transaction of its own, under the schema's lock (P11).

The files of `sql/<dialect>/migrations/` carry the same names in both dialects. The ledger is the
table `pandora_migrations`. On a current schema nothing but reads is issued.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from pandora_db.codecs.stage import missing_stages
from pandora_db.drivers.base import Driver, Migrator, Row, Session
from pandora_db.errors import ForeignSchema, SchemaChanged, SchemaTooNew
from pandora_db.models.pipeline import PIPELINES
from pandora_db.models.schema import SchemaDifference, SchemaPlan, SchemaStep
from pandora_db.models.stage import STAGES
from pandora_db.sqlfiles import Dialect, sql_root

log = logging.getLogger("pandora_db")

_LEDGER = "pandora_migrations"
_LOCK = re.compile(r"^-- lock: (.+?)(?:; ([\d.]+) us a row)?$", re.MULTILINE)
_INDEXED = re.compile(r"CREATE (?:UNIQUE )?INDEX (\w+)")
_REPLACED = re.compile(r"DROP INDEX IF EXISTS (?:\{schema\}\.)?(\w+)")
# Parentheses nest twice at most in our CHECKs.
_CHECK = re.compile(r" CONSTRAINT (\w+) (CHECK \((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))")
_MADE = re.compile(r"CREATE (?:TABLE|VIEW|SEQUENCE) (?:IF NOT EXISTS )?(?:\{schema\}\.)?(\w+)")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: what it does, and how its content is told from another."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, the same on every platform."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def lock(self) -> tuple[str, float]:
        """What is locked meanwhile, and seconds for each row of `jobs`."""
        found = _LOCK.search(self.text)
        return (found[1], float(found[2] or 0) / 1e6) if found else ("nothing", 0.0)

    @property
    def makes(self) -> frozenset[str]:
        """The relations that it creates."""
        return frozenset(_MADE.findall(self.text))

    @property
    def indexes(self) -> frozenset[str]:
        """The indexes that it creates."""
        return frozenset(_INDEXED.findall(self.text))

    @property
    def replaces(self) -> frozenset[str]:
        """The indexes of libpndb that it drops first."""
        return frozenset(_REPLACED.findall(self.text))


@cache
def load_migrations(dialect: Dialect) -> tuple[Migration, ...]:
    """The shipped migrations in order."""
    files = sorted((sql_root() / dialect / "migrations").glob("*.sql"))
    found = tuple(
        Migration(int(file.name[:4]), file.stem, file.read_text("utf-8")) for file in files
    )
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the migrations of {dialect} are not numbered 0001, 0002, …")
    return found


def known_version(dialect: Dialect) -> int:
    """The schema version that this `pandora_db` works with."""
    return len(load_migrations(dialect))


async def found_version(session: Session) -> int:
    """The schema version of the database; 0 without a ledger."""
    relations = await session.read("find_relations", {})
    if _LEDGER not in {name for name, _ in relations}:
        return 0
    applied = await session.read("get_migrations", {})
    return applied[-1][0] if applied else 0


async def refuse_newer(driver: Driver) -> None:
    """Raise `SchemaTooNew` when a newer `pandora_db` has been here."""
    found = await found_version(driver)
    if found > known_version(driver.dialect):
        raise SchemaTooNew(found, known_version(driver.dialect))


async def migrate(driver: Driver) -> None:
    """Bring the schema to this version (see `JobDb.init_schema`)."""
    if not await _pending(driver, driver.dialect) and not await _missing_stages(driver):
        return
    done = False
    while not done:
        async with driver.migrating() as migrator:
            done = await _step(migrator, driver)


async def _step(migrator: Migrator, driver: Driver) -> bool:
    """Apply the next migration, if there is one; True when there was none left."""
    pending = await _pending(migrator, driver.dialect)
    if not pending:
        for stage in await _missing_stages(migrator):
            await migrator.read("insert_stage", stage)
        return True
    migration = pending[0]
    if migration.version == 1:
        for statement in driver.queries.get("create_ledger").statements:
            await migrator.run(statement.text)
    elif copy := await migrator.backup(migration.version - 1):
        log.info("before migration %s a backup was written to %s", migration.name, copy)
    for text in driver.queries.split_script(migration.text):
        await migrator.run(text)
    row = {"version": migration.version, "name": migration.name, "checksum": migration.checksum}
    await migrator.read("record_migration", row)
    log.info("applied migration %s", migration.name)
    return False


async def plan(driver: Driver) -> SchemaPlan:
    """What `migrate` would do; it changes nothing and takes no lock."""
    pending = await _pending(driver, driver.dialect)
    ((rows,),) = await driver.read("estimate_rows", {})
    steps: list[SchemaStep] = []
    for migration in pending:
        what, seconds = migration.lock
        statements = tuple(driver.queries.split_script(migration.text))
        steps.append(
            SchemaStep(migration.version, migration.name, statements, what, rows * seconds)
        )
    target = known_version(driver.dialect)
    return SchemaPlan(driver.dialect, target - len(pending), target, tuple(steps))


async def verify(driver: Driver) -> list[SchemaDifference]:
    """Every way in which the schema is not the shipped one; additions of others do not count."""
    if await found_version(driver) < known_version(driver.dialect):
        return [SchemaDifference("schema", _LEDGER, f"version {known_version(driver.dialect)}")]
    rows = await driver.read("describe_schema", {})
    found = _facts(rows)
    differences = [
        SchemaDifference(kind, name, definition, found.get((kind, name)))
        for (kind, name), definition in expected_schema(driver.dialect).items()
        if found.get((kind, name)) != definition
    ]
    stages = {row[0]: row[2] for row in await driver.read("get_stages", {})}
    differences += [
        SchemaDifference("stage", str(info.code), info.name, stages.get(info.code))
        for info in STAGES.values()
        if stages.get(info.code) != info.name
    ]
    return differences


@cache
def expected_schema(dialect: Dialect) -> dict[tuple[str, str], str]:
    """What `describe_schema` answers after all migrations: (kind, name) → definition."""
    lines = (sql_root() / dialect / "schema.txt").read_text("utf-8").splitlines()
    return {(kind, name): text for kind, name, text in (line.split("\t") for line in lines)}


def describe(rows: Sequence[Row]) -> str:
    """The content of `schema.txt` for a database whose `describe_schema` answered `rows`."""
    return "".join(
        f"{kind}\t{name}\t{text}\n" for (kind, name), text in sorted(_facts(rows).items())
    )


def _facts(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """(kind, name) → definition; the CHECKs of a table whose text holds them get a line each."""
    facts: dict[tuple[str, str], str] = {}
    for kind, name, definition in rows:
        text = " ".join(definition.split())
        if kind == "table":
            for found in _CHECK.finditer(text):
                facts["check", f"{name}.{found[1]}"] = found[2]
            text = _CHECK.sub("", text).replace(" ,", ",")
        facts[kind, name] = text
    return facts


async def _pending(session: Session, dialect: Dialect) -> tuple[Migration, ...]:
    """The migrations to apply; raises when this database must not be touched."""
    shipped = load_migrations(dialect)
    relations = {name for name, _ in await session.read("find_relations", {})}
    if _LEDGER not in relations:
        try:
            await _refuse_foreign(session, relations, shipped)
        except ForeignSchema:
            # Another process may have migrated between our reads; then the ledger is there now.
            if _LEDGER not in {name for name, _ in await session.read("find_relations", {})}:
                raise
        else:
            return shipped
    applied = await session.read("get_migrations", {})
    if len(applied) > len(shipped):
        raise SchemaTooNew(applied[-1][0], len(shipped))
    for (_, name, checksum), migration in zip(applied, shipped, strict=False):
        if (name, checksum) != (migration.name, migration.checksum):
            raise SchemaChanged(name)
    return shipped[len(applied) :]


async def _refuse_foreign(
    session: Session, relations: set[str], shipped: Sequence[Migration]
) -> None:
    taken = relations.intersection(*[shipped[0].makes])
    differences = [f"{name} exists already" for name in sorted(taken - {"jobs"})]
    if "jobs" in taken:
        differences += await _unlike_libpndb(session, shipped[0])
    for name, table in await session.read("find_indexes", {}):
        if name in shipped[0].indexes and (table != "jobs" or name not in shipped[0].replaces):
            differences.append(f"index {name} exists already, on {table}")
    if differences:
        raise ForeignSchema(
            "the database holds tables of our names that neither pandora_db nor libpndb made; they "
            "were left untouched. Use another database or schema, and insert_jobs() to bring rows "
            "over. What is not ours:",
            differences=differences,
        )


async def _unlike_libpndb(session: Session, first: Migration) -> list[str]:
    wanted = {name: kind for name, kind in await session.read("adoptable_columns", {}) if name}
    if not wanted:
        return ["jobs exists already"]
    rows = await session.read("get_columns", {"table": "jobs"})
    columns: dict[str, str] = {name: kind for name, kind in rows}  # noqa: C416 - rows are no pairs
    differences = [
        f"jobs.{name} is {columns.get(name, 'missing')}, libpndb's is {kind}"
        for name, kind in wanted.items()
        if columns.get(name) != kind
    ]
    ours = set(re.findall(r"ADD COLUMN (\w+)", first.text))
    differences += [f"jobs.{name} exists already" for name in sorted(ours & set(columns))]
    key = [name for (name,) in await session.read("get_primary_key", {"table": "jobs"})]
    if key != ["job_id"]:
        differences.append(f"the primary key of jobs is {key or 'missing'}, libpndb's is job_id")
    relations = {name: kind for name, kind in await session.read("find_relations", {})}  # noqa: C416
    if relations["jobs"] != "table":
        differences.append("jobs is not an ordinary table")
    return differences


async def _missing_stages(session: Session) -> list[dict[str, object]]:
    """The stages that the table lacks; raises `ForeignSchema` where a code means something else."""
    return missing_stages(await session.read("get_stages", {}), PIPELINES.values())
