"""The kinds of events in the SQL are those of `EventKind`, and stand there by their names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pandora_db import EventKind
from pandora_db.sqlfiles import sql_root

if TYPE_CHECKING:
    from collections.abc import Iterator

_RECORDED = re.compile(
    r"INSERT INTO (?:\{schema\}\.)?job_events \(job_id, seq, at, kind, [^)]*\)"
    r"\s+(?:VALUES \(|SELECT )"
)
# A comparison with a number, or a choice of numbers; a parameter is `:kind`.
_BARE = re.compile(r"\bkind(?:\s+NOT)?\s*(?:=|<>|IN|IS|WHEN)\s*\(?\d")
_CASE = re.compile(r"\b(?:THEN|ELSE) (\d+)\b")


def kinds_recorded(text: str) -> Iterator[str]:
    """What each INSERT into the history writes as its kind."""
    for found in _RECORDED.finditer(text):
        items, depth = [""], 0
        for letter in text[found.end() :]:
            depth += (letter == "(") - (letter == ")")
            if letter == "," and not depth:
                items.append("")
            else:
                items[-1] += letter
            if len(items) > 4:
                break
        yield items[3].strip()


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_the_fragments_have_the_numbers_of_the_enum(dialect: str) -> None:
    text = (sql_root() / dialect / "events.sql").read_text("utf-8")
    named = re.findall(r"^-- fragment: ([A-Z_]+)\n(\d+)$", text, re.MULTILINE)

    assert {name: int(number) for name, number in named} == {
        name: EventKind[name].value for name, _ in named
    }
    everything = "".join(path.read_text("utf-8") for path in (sql_root() / dialect).glob("*.sql"))
    assert [name for name, _ in named if f"{{{name}}}" not in everything] == []


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_no_query_has_the_bare_number_of_a_kind(dialect: str) -> None:
    seen = 0
    for path in sorted((sql_root() / dialect).glob("*.sql")):
        text = path.read_text("utf-8")
        assert _BARE.findall(text) == [], path.name
        for kind in kinds_recorded(text):
            seen += 1
            assert re.search(r"\b\d+\b", kind) is None, f"{path.name}: {kind}"
    assert seen > 8


@pytest.mark.parametrize("dialect", ["sqlite", "postgres"])
def test_what_the_triggers_record_of_other_programs(dialect: str) -> None:
    """A migration that was applied stays as it is: there the numbers stand by themselves."""
    text = (sql_root() / dialect / "migrations" / "0001_jobs.sql").read_text("utf-8")
    inserted, changed = kinds_recorded(text)

    assert int(inserted) == EventKind.INSERTED
    assert [EventKind(int(number)) for number in _CASE.findall(changed)] == [
        EventKind.STAGE, EventKind.ARCHIVED, EventKind.RECORDED,
    ]  # fmt: skip
