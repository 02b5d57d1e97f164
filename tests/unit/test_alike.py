"""What the calls of a crowd share is sent to PostgreSQL once."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from pandora_db import Stage
from pandora_db.drivers.postgres.alike import Alike, alike
from pandora_db.drivers.postgres.arrays import Flat
from pandora_db.sqlfiles import Catalogue
from pandora_db.store.claim_ends import _way_out
from pandora_db.store.job_inserts import _insert_args
from pandora_db.testing import make_job

CATALOGUE = Catalogue("postgres", '"public"')
FINISHED = _way_out(Stage.DOWNLOADING, Stage.DOWNLOADED)


def end(number: int, **other: Any) -> dict[str, Any]:
    """What a finish asks for."""
    assert FINISHED is not None
    told = {"job_id": number, "token": 100 + number, "attempt": 1, "attempt_left": 0}
    return FINISHED | told | {"owner": "me", "operation_id": str(uuid4())} | other


@pytest.fixture
def ends() -> Alike:
    """The variant for crowds of end_claim."""
    found = alike(CATALOGUE, "end_claim")
    assert found is not None
    return found


def insert(**fields: Any) -> dict[str, Any]:
    """What an insert asks for."""
    return _insert_args(make_job(**fields), str(uuid4()))


@pytest.fixture
def inserts() -> Alike:
    """The variant for crowds of insert_job."""
    found = alike(CATALOGUE, "insert_job")
    assert found is not None
    return found


def test_what_they_share_is_sent_once(ends: Alike) -> None:
    columns = ends.columns([end(1), end(2, attempt=7)])

    assert columns is not None
    arrays = [repr(column) for column in columns if isinstance(column, Flat)]
    assert "(1, 2)" in arrays
    assert "(101, 102)" in arrays
    assert "(1, 7)" in arrays
    assert len(arrays) == 5
    assert {column for column in columns if not isinstance(column, Flat)} == {
        end(1)[name]
        for name in (
            "owner", "stage", "archived", "cancelled", "worked", "kind", "drop", "keep_error",
            "delay", "error", "detail",
        )
    }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        {"owner": "you"},
        {"delay": 1.5},
        {"stage": Stage.UPLOADED.value},
        {"error": "no"},
        {"output": "{}"},
    ],
)
def test_whoever_says_something_else_goes_with_all_of_it(
    ends: Alike, other: dict[str, Any]
) -> None:
    assert ends.columns([end(1), end(2, **other)]) is None


@pytest.mark.parametrize("name", ["output", "output_kind", "output_file"])
def test_an_output_is_nothing_to_share(ends: Alike, name: str) -> None:
    assert ends.columns([end(1, **{name: "{}"}), end(2, **{name: "{}"})]) is None


def test_jobs_of_one_kind_are_sent_with_what_they_differ_in(inserts: Alike) -> None:
    columns = inserts.columns([insert(author="a"), insert(author="b", guild_id=7)])

    assert columns is not None
    names = CATALOGUE.get("insert_jobs_alike").statements[0].parameters
    sent = dict(zip(names, columns, strict=True))
    assert repr(sent["author"]) == "('a', 'b')"
    assert repr(sent["guild_id"]) == "(None, 7)"
    assert sent["author_id"] is None  # an array, of which nobody says an element
    assert (sent["priority"], sent["ready"]) == (0, 0)


@pytest.mark.parametrize("other", [{"name": "reindex"}, {"priority": 3}, {"tags": ("gpu",)}])
def test_jobs_of_two_kinds_are_sent_with_all_that_they_say(
    inserts: Alike, other: dict[str, Any]
) -> None:
    assert inserts.columns([insert(), insert(**other)]) is None


@pytest.mark.parametrize("taken", [{"job_id": 7}, {"external_id": "x"}, {"idempotency_key": "y"}])
def test_a_job_that_may_be_there_already_goes_with_the_statement_that_passes_over_it(
    inserts: Alike, taken: dict[str, Any]
) -> None:
    assert inserts.columns([insert(**taken)]) is None
    assert inserts.columns([insert(), insert(**taken)]) is None


def test_other_queries_have_no_such_variant() -> None:
    assert alike(CATALOGUE, "update_stage") is None
