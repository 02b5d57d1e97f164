"""What many calls become on their way into one statement."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from uuid import UUID

import pytest

from pandora_db.drivers.postgres.arrays import Flat, as_columns
from pandora_db.drivers.sqlite.crowd import change
from pandora_db.drivers.sqlite.many_rows import for_rows, write_rows
from pandora_db.sqlfiles import Catalogue
from pandora_db.store.operation import operation, operation_run


def elements(column: Flat | None) -> list[object]:
    """What asyncpg sends of it: it has gone through it before, for its shape."""
    assert column is not None
    list(column)
    return list(column)


def test_columns_without_a_value_are_left_out() -> None:
    numbers, nothing, texts, others = as_columns([(1, None, "a", None), (2, None, None, 3)])

    assert nothing is None
    assert elements(numbers) == [1, 2]
    assert elements(texts) == ["a", None]
    assert elements(others) == [None, 3]


def test_an_array_has_no_elements_for_who_asks_for_its_shape() -> None:
    flat = Flat((1, 2))

    assert len(flat) == 2
    assert list(flat) == []
    assert list(flat) == list(flat) == [1, 2]
    assert repr(flat) == "(1, 2)"


def test_the_row_of_values_is_repeated() -> None:
    text = (
        "UPDATE t SET a = op.column2 FROM (VALUES (?1, coalesce(?2, 0))) AS op WHERE id = column1"
    )

    assert for_rows(text, 2) == (
        "UPDATE t SET a = op.column2 FROM (VALUES (?1, coalesce(?2, 0)), (?3, coalesce(?4, 0))) "
        "AS op WHERE id = column1"
    )


def test_places_that_no_row_says_anything_in_are_null() -> None:
    text = "INSERT INTO t VALUES (?1, coalesce(?2, 0), ?3)"

    assert for_rows(text, 2, frozenset({0, 1})) == (
        "INSERT INTO t VALUES (NULL, coalesce(NULL, 0), ?1), (NULL, coalesce(NULL, 0), ?2)"
    )


def test_numbers_go_on_after_a_place_that_is_null() -> None:
    text = "UPDATE t SET a = ?1 FROM (VALUES (?2, ?3)) AS op"

    assert for_rows(text, 2, frozenset({0})) == (
        "UPDATE t SET a = ?1 FROM (VALUES (NULL, ?2), (NULL, ?3)) AS op"
    )


def test_rows_say_more_and_less_than_those_before() -> None:
    text = "INSERT INTO t VALUES (?1, ?2, ?3, ?4)"
    rows = [
        (1, None, None, None),
        *[(n, None, "x", None) for n in range(2, 60)],
        (60, "y", None, None),
        (61, None, None, 0),
        *[(n, None, None, None) for n in range(62, 100)],
    ]
    with closing(sqlite3.connect(":memory:")) as connection:
        cursor = connection.cursor()
        cursor.execute("CREATE TABLE t (a, b, c, d DEFAULT 7)")  # of a column that is left out

        for part in (rows[:1], rows[1:70], rows[70:]):
            assert write_rows(cursor, text, part) == len(part)

        assert cursor.execute("SELECT * FROM t ORDER BY a").fetchall() == rows


def test_parameters_outside_the_values_are_the_same_for_all_rows() -> None:
    text = "UPDATE t SET a = ?1, b = ?4 FROM (VALUES (?2, ?3)) AS op WHERE c = ?4"

    assert for_rows(text, 2) == (
        "UPDATE t SET a = ?1, b = ?2 FROM (VALUES (?3, ?4), (?5, ?6)) AS op WHERE c = ?2"
    )


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t SELECT ?1",
        "INSERT INTO t VALUES (?1, ?1)",
        "INSERT INTO t VALUES (?2, ?1)",
        "UPDATE t SET a = ?1 FROM (VALUES (?1, ?2)) AS op",
    ],
)
def test_a_statement_whose_values_are_not_parameters_in_order_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"VALUES \("):
        for_rows(text, 2)


def test_operation_ids_are_uuids_that_count_on() -> None:
    ids = [operation(None).id for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert {(UUID(one).version, str(UUID(one))) for one in ids} == {(7, one) for one in ids}


def test_a_bulk_call_counts_on_from_its_id() -> None:
    fresh = operation_run(None)
    last = operation_run(UUID(int=2**128 - 1))

    assert [UUID(one).int for one in fresh.ids(1000)] == [
        UUID(fresh.first).int + index for index in range(1000)
    ]
    assert last.ids(2) == [
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "ffffffff-ffff-ffff-ffff-000000000000",
    ]


@pytest.mark.parametrize(("calls", "rows"), [(4, 4), (5, 5), (9, 10), (33, 40), (400, 448)])
def test_a_crowd_is_filled_up_to_one_of_few_lengths(calls: int, rows: int) -> None:
    queries = Catalogue("sqlite", "main")
    asked = {"stage": 2, "lowest": 0, "highest": 9, "restarts": False, "operation_id": "x"}

    text, values = change(
        queries, queries.get("update_stage"), [{**asked, "job_id": n} for n in range(1, calls + 1)]
    )

    assert text.count("(?") == rows
    assert values[0::6] == [*range(1, calls + 1), *[""] * (rows - calls)]
