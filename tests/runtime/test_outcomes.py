"""Outcomes are frozen values, and refuse what no job could be left with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from pandora_db import Backoff, InvalidInput
from pandora_db.runtime import Cancelled, Done, Fail, Snooze
from pandora_db.runtime.outcomes import plain_output, read_outcome

OUTCOMES = [Done({"size": 1}, "file"), Snooze(5), Fail("no space", final=True), Cancelled("spam")]


class Copied(BaseModel):
    count: int


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_is_a_frozen_value(outcome: Any) -> None:
    assert read_outcome(outcome) is outcome
    assert outcome == dataclasses.replace(outcome)
    assert not hasattr(outcome, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(outcome, dataclasses.fields(outcome)[0].name, None)


@pytest.mark.parametrize("value", [None, {"size": 1}, [1], "text", 5, Copied(count=1)])
def test_anything_else_is_an_output(value: object) -> None:
    assert read_outcome(value) == Done(value)


def test_models_in_an_output_become_json() -> None:
    given = {"all": [Copied(count=1), (Copied(count=2), 3)]}
    assert plain_output(given) == {"all": [{"count": 1}, [{"count": 2}, 3]]}


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Snooze(-1), "seconds"),
        (lambda: Snooze(True), "seconds"),
        (lambda: Fail("x", retry_in=-1), "retry_in"),
        (lambda: Fail("x", retry_in=1, final=True), "retry_in"),
        (lambda: Fail("x", retry_in=Backoff(), final=True), "retry_in"),
        (lambda: Fail(5), "error"),  # type: ignore[arg-type]
        (lambda: Cancelled(5), "reason"),  # type: ignore[arg-type]
        (lambda: Done(kind=5), "kind"),  # type: ignore[arg-type]
        (lambda: Done(file=5), "file"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_is_refused_where_it_is_made(make: Callable[[], object], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        make()
    assert refused.value.field == field
