"""The loader of `.sql` files: what is a parameter, what only looks like one, what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pandora_db import sqlfiles
from pandora_db.sqlfiles import Catalogue, Dialect, Query

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Load = Callable[..., Catalogue]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Make a catalogue of files that the test writes."""

    def load(dialect: Dialect = "postgres", schema: str = "main", **files: str) -> Catalogue:
        root = tmp_path / str(len(list(tmp_path.iterdir())))  # files are read once per folder
        folder = root / dialect
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / f"{name}.sql").write_text(content, "utf-8")
        monkeypatch.setattr(sqlfiles, "sql_root", lambda: root)
        return Catalogue(dialect, schema)

    return load


def query(load: Load, body: str, dialect: Dialect = "postgres", when: str = "") -> Query:
    return load(dialect, a=f"-- name: probe :many\n{body}\n").get("probe", frozenset(when.split()))


@pytest.mark.parametrize(
    ("body", "text", "parameters"),
    [
        ("SELECT :a, :b, :a", "SELECT $1, $2, $1", ("a", "b")),
        ("SELECT ':a', :b", "SELECT ':a', $1", ("b",)),
        ("SELECT 'it''s :a', :b", "SELECT 'it''s :a', $1", ("b",)),
        ('SELECT 1 AS ":a", :b', 'SELECT 1 AS ":a", $1', ("b",)),
        ("SELECT :a::text, '1'::int", "SELECT $1::text, '1'::int", ("a",)),
        ("SELECT (:ids)[1:2]", "SELECT ($1)[1:2]", ("ids",)),
        ("SELECT (:ids::int[])[1:2] -- as a:b", "SELECT ($1::int[])[1:2] -- as a:b", ("ids",)),
        ("SELECT :a -- until 12:30, :b", "SELECT $1 -- until 12:30, :b", ("a",)),
        ("SELECT /* :a; */ :b", "SELECT /* :a; */ $1", ("b",)),
        ("SELECT $$ :b $$, :a", "SELECT $$ :b $$, $1", ("a",)),
        ("SELECT $tag$ ; $$ :b $tag$, :a", "SELECT $tag$ ; $$ :b $tag$, $1", ("a",)),
        ("SELECT 1 -- it's :a\n, :b -- it's", "SELECT 1 -- it's :a\n, $1 -- it's", ("b",)),
        ("SELECT '{\"a\": 1}', :a", "SELECT '{\"a\": 1}', $1", ("a",)),
        ("SELECT :a_1, :A1", "SELECT $1, $2", ("a_1", "A1")),
        ("SELECT 1", "SELECT 1", ()),
    ],
)
def test_parameters_are_told_from_what_looks_like_them(
    load: Load, body: str, text: str, parameters: tuple[str, ...]
) -> None:
    (statement,) = query(load, body).statements

    assert statement.text == text
    assert statement.parameters == parameters


def test_values_are_bound_in_the_order_of_the_placeholders(load: Load) -> None:
    values = {"a": 1, "b": 2, "c": 3}

    assert query(load, "SELECT :b, :a, :b").statements[0].bind(values) == (2, 1)
    assert query(load, "SELECT 1").statements[0].bind(values) == ()


def test_a_single_value_is_bound_as_a_row_of_one(load: Load) -> None:
    assert query(load, "SELECT :b").statements[0].bind({"b": (1, 2)}) == ((1, 2),)


def test_a_value_that_is_missing_is_named(load: Load) -> None:
    with pytest.raises(KeyError, match="b"):
        query(load, "SELECT :a, :b").statements[0].bind({"a": 1})


def test_sqlite_has_placeholders_of_its_own(load: Load) -> None:
    assert query(load, "SELECT :a, :b, :a", "sqlite").text == "SELECT ?1, ?2, ?1"


def test_each_statement_of_a_query_counts_its_own_parameters(load: Load) -> None:
    one = query(load, "UPDATE t SET a = :a;\nSELECT ';', :b; -- the end;\n", "sqlite")

    assert [statement.text for statement in one.statements] == [
        "UPDATE t SET a = ?1",
        "SELECT ';', ?1",
    ]
    assert one.parameters == {"a", "b"}
    with pytest.raises(ValueError, match="unpack"):
        _ = one.text


def test_a_query_knows_its_shape_and_where_it_stands(load: Load) -> None:
    catalogue = load(a="\n-- remark\n-- name: probe :maybe\nSELECT 1\n")

    found = catalogue.get("probe")

    assert (found.name, found.shape, found.source) == ("probe", "maybe", "postgres/a.sql:3")
    assert list(catalogue) == ["probe"]


def test_lines_with_a_flag_stand_only_where_it_is_asked_for(load: Load) -> None:
    body = "SELECT 1 WHERE TRUE\nAND a = :a -- when: a\nAND b = :b   --when:b\nLIMIT :n"
    catalogue = load(a=f"-- name: probe :many\n{body}\n")

    assert catalogue.flags("probe") == {"a", "b"}
    bare = catalogue.get("probe")
    both = catalogue.get("probe", frozenset({"a", "b"}))
    assert bare.text == "SELECT 1 WHERE TRUE\nLIMIT $1"
    assert both.text == "SELECT 1 WHERE TRUE\nAND a = $1\nAND b = $2\nLIMIT $3"
    assert both.statements[0].parameters == ("a", "b", "n")
    assert both.flags == {"a", "b"}


def test_a_flag_that_the_query_does_not_know_is_refused(load: Load) -> None:
    """A misspelt filter must not select everything."""
    catalogue = load(a="-- name: probe :many\nSELECT 1\nAND a = :a -- when: a\n")

    with pytest.raises(KeyError, match="typo"):
        catalogue.get("probe", frozenset({"typo"}))


def test_fragments_are_spliced_and_may_name_others(load: Load) -> None:
    catalogue = load(
        a="-- fragment: columns\na, {inner}\n\n-- name: probe :many\n"
        "SELECT {columns} FROM {schema}.t\nWHERE TRUE\n{filters}\n",
        b="-- fragment: inner\nb\n-- fragment: filters\nAND c = :c -- when: c\nAND d\n",
        schema='"x"',
    )

    assert catalogue.get("probe").text == 'SELECT a, b FROM "x".t\nWHERE TRUE\nAND d'
    assert catalogue.flags("probe") == {"c"}
    assert catalogue.get("probe", frozenset({"c"})).parameters == {"c"}


def test_remarks_are_left_out_of_the_text(load: Load) -> None:
    catalogue = load(
        a="-- about the first\n-- name: one :one\nSELECT 1\n\n-- about the second\n"
        "-- name: two :one\nSELECT 2\n"
    )

    assert catalogue.get("one").text == "SELECT 1"
    assert catalogue.get("two").text == "SELECT 2"


@pytest.mark.parametrize("shape", ["", " :several", " :Many", " :exec"])
def test_an_unknown_shape_is_refused_with_its_place(load: Load, shape: str) -> None:
    with pytest.raises(ValueError, match=r"postgres/a\.sql:2: probe needs a shape.*'many'"):
        load(a=f"\n-- name: probe{shape}\nSELECT 1\n")


@pytest.mark.parametrize(
    ("first", "second"), [("name", "name"), ("fragment", "name"), ("fragment", "fragment")]
)
def test_a_name_given_twice_is_refused(load: Load, first: str, second: str) -> None:
    with pytest.raises(ValueError, match=r"postgres/b\.sql:1: probe is defined twice"):
        load(
            a=f"-- {first}: probe{' :one' * (first == 'name')}\nSELECT 1\n",
            b=f"-- {second}: probe{' :one' * (second == 'name')}\nSELECT 2\n",
        )


def test_an_unknown_query_is_named(load: Load) -> None:
    with pytest.raises(KeyError, match="nobody"):
        load(a="-- name: probe :one\nSELECT 1\n").get("nobody")


TRIGGER = """CREATE TABLE {schema}.t (a TEXT DEFAULT ';');
-- it's a remark; with a semicolon
CREATE TRIGGER tt AFTER UPDATE ON t
WHEN NEW.a = ':a'
BEGIN
    UPDATE t SET a = 'x;y';
    SELECT RAISE(ABORT, 'it''s; over');
END;

DROP TABLE t
"""


def test_a_migration_of_sqlite_keeps_the_body_of_a_trigger_in_one_piece(load: Load) -> None:
    first, trigger, last = load("sqlite", a="").split_script(TRIGGER)

    assert first == "CREATE TABLE main.t (a TEXT DEFAULT ';')"
    assert trigger.endswith("END")
    assert trigger.count(";") == 5
    assert last == "DROP TABLE t"


def test_a_migration_of_postgres_keeps_the_body_of_a_function_in_one_piece(load: Load) -> None:
    script = (
        "-- a remark;\nCREATE FUNCTION {schema}.f() AS $$\nBEGIN\n  x := 1; RETURN NEW;\nEND $$;\n"
        "CREATE TABLE t (a TEXT DEFAULT 'a;b'); -- the end;\n"
    )

    function, table = load("postgres", "x", a="").split_script(script)

    assert function.startswith("-- a remark;\nCREATE FUNCTION x.f()")
    assert function.endswith("END $$")
    assert table == "CREATE TABLE t (a TEXT DEFAULT 'a;b')"


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_what_others_may_watch_is_known_by_its_text(dialect: Dialect) -> None:
    catalogue = Catalogue(dialect, "main")
    found: dict[str, set[int] | None] = {}
    for name in catalogue:
        query = catalogue.get(name)
        if query.makes_events:
            found[name] = query.arrivals([dict.fromkeys(query.parameters, n) for n in (7, 9)])

    told = {"insert_job", "update_stage", "move_job", "end_claim", "claim_jobs", "claim_by_ids"}
    if dialect == "sqlite":
        told |= {"record_inserted"}
    else:
        told |= {"insert_jobs_alike", "end_claims_alike"}
    untold = {
        "archive_job", "update_job", "delete_job", "recover_jobs", "record_loaded",
        "record_loaded_between", "reset_tables",
    }  # fmt: skip
    assert found == {name: {7, 9} for name in told} | dict.fromkeys(untold)
    claim = catalogue.get("claim_jobs")  # from one stage into another
    assert claim.arrivals([dict.fromkeys(claim.parameters, 7) | {"into": 9}]) == {9}
