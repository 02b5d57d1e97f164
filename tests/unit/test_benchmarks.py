"""The raw side binds by hand what the library's queries ask for; the tables are the kept run's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.held import _insert_args, _update_args
from benchmarks.readme import DOCUMENTS, rendered
from benchmarks.work import Moves
from pandora_db.sqlfiles import Catalogue

if TYPE_CHECKING:
    from pandora_db.sqlfiles import Dialect

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_every_parameter_is_given(dialect: Dialect) -> None:
    queries = Catalogue(dialect, "main")

    assert queries.get("insert_job").parameters <= next(_insert_args(1)).keys()
    assert queries.get("update_stage").parameters <= next(_update_args(Moves([1], 0), 1)).keys()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_tables_in_the_documents_are_those_of_the_kept_run(document: str) -> None:
    newest = max((ROOT / "benchmarks" / "results").glob("*.json"))

    text = (ROOT / document).read_text("utf-8")
    assert rendered(document, newest) == text
    assert text.count("\n| --- |") >= 1


def test_a_library_that_is_missing_is_named() -> None:
    code = (
        "import runpy, sys; sys.modules['huey'] = None; sys.argv[1:] = ['--help']; "
        "runpy.run_module('benchmarks', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "huey is missing: pip install -e '.[bench]'\n"
