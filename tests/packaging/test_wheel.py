"""The built wheel is whole, works without the checkout, and the checkout works without a wheel."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pandora_db.sqlfiles import sql_root

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
import pandora_db
from pandora_db import Job, JobDb
from pandora_db.sqlfiles import sql_root

async def main():
    async with JobDb.open(":memory:") as db:
        await db.init_schema()
        job_id = await db.insert_job(Job(author="mika"))
        print((await db.get_job(job_id)).author)

assert pandora_db.__file__.startswith(sys.argv[1]), pandora_db.__file__
assert str(sql_root()).startswith(sys.argv[1]), sql_root()
asyncio.run(main())
"""


def sql_files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*.sql")}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)],
        check=True,
        capture_output=True,
    )
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


def test_a_checkout_finds_its_sql_beside_the_package() -> None:
    assert sql_root() == ROOT / "sql"


def test_the_wheel_holds_every_sql_file_and_every_module(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())

    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "pandora_db").rglob("*.py")}
    assert {f"pandora_db/sql/{name}" for name in sql_files(ROOT / "sql")} <= names
    assert modules <= names
    assert "pandora_db/py.typed" in names
    assert any(name.endswith("LICENSE") for name in names)
    strangers = {name for name in names if not name.startswith(("pandora_db/", "pandora_db-"))}
    assert strangers == set()


def test_the_source_archive_holds_what_the_wheel_is_built_from(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}

    assert {f"sql/{name}" for name in sql_files(ROOT / "sql")} <= names
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "tests/conftest.py"} <= names


def test_the_wheel_works_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")  # noqa: S202 - built a moment ago, from here
    site = str(tmp_path / "site")

    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {site!r})\n{PROGRAM}", site],
        check=False,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )

    assert (result.returncode, result.stdout) == (0, "mika\n"), result.stderr


def test_no_pytest_comes_in_with_the_testing_module() -> None:
    program = "import sys, pandora_db.testing; assert 'pytest' not in sys.modules"

    result = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)

    assert result.returncode == 0, result.stderr
