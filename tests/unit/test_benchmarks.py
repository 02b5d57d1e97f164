"""The raw side of the benchmarks binds by hand what the library's own queries ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.held import _insert_args, _update_args
from benchmarks.work import Moves
from pandora_db.sqlfiles import Catalogue

if TYPE_CHECKING:
    from pandora_db.sqlfiles import Dialect


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_every_parameter_is_given(dialect: Dialect) -> None:
    queries = Catalogue(dialect, "main")

    assert queries.get("insert_job").parameters <= next(_insert_args(1)).keys()
    assert queries.get("update_stage").parameters <= next(_update_args(Moves([1], 0), 1)).keys()
