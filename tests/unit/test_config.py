"""Settings: defaults, bounds, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from pandora_db.config import Settings
from pandora_db.errors import InvalidInput

TIMES = [
    "connection_life",
    "connection_idle",
    "connect_timeout",
    "acquire_timeout",
    "statement_timeout",
    "lock_timeout",
    "close_timeout",
    "wait_for_server",
    "outcome_timeout",
]


def test_defaults() -> None:
    assert Settings().model_dump(by_alias=True) == {
        "pool_min": 1,
        "pool_max": 10,
        "connection_life": 300.0,
        "connection_idle": 300.0,
        "connect_timeout": 10.0,
        "acquire_timeout": 10.0,
        "statement_timeout": 30.0,
        "lock_timeout": 5.0,
        "close_timeout": 10.0,
        "wait_for_server": 0.0,
        "outcome_timeout": 30.0,
        "lease": 30.0,
        "heartbeat": 10.0,
        "sweep": 10.0,
        "stall": 60.0,
        "deadline": None,
        "max_attempts": 5,
        "max_pending": 10_000,
        "max_batch": 500,
        "synchronous": "full",
        "make_folders": False,
        "schema": "public",
        "pgbouncer": False,
        "notify": True,
        "application_name": "pandora_db",
    }


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("value", [-1, float("inf"), float("nan"), True, "5", None, 1e9])
def test_times(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} is .*; expected a number of seconds") as e:
        Settings(**{name: value})
    assert e.value.field == name
    assert getattr(Settings(**{name: 2}), name) == 2.0


def test_only_wait_for_server_may_be_zero() -> None:
    assert Settings(wait_for_server=0).wait_for_server == 0
    with pytest.raises(InvalidInput):
        Settings(lock_timeout=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pool_min", 0),
        ("pool_max", 1001),
        ("pool_max", True),
        ("pool_max", 2.0),
        ("max_pending", 0),
        ("max_batch", 10_001),
        ("synchronous", "off"),
        ("synchronous", "FULL"),
        ("synchronous", None),
        ("schema", ""),
        ("schema", "Public"),
        ("schema", "1a"),
        ("schema", "a" * 64),
        ("schema", "a;b"),
        ("schema", "public\n"),
        ("schema", 'a"b'),
        ("pgbouncer", 1),
        ("notify", 1),
        ("pgbouncer", "yes"),
        ("application_name", ""),
        ("application_name", "a" * 64),
        ("application_name", "a\0"),
        ("application_name", "ä"),
    ],
)
def test_refused(name: str, value: Any) -> None:
    with pytest.raises(InvalidInput, match=f"^{name} is .*; expected") as caught:
        Settings(**{name: value})
    assert caught.value.field == name


def test_unknown_names() -> None:
    with pytest.raises(InvalidInput, match="Settings has no field 'pool_maxi'; did you mean") as e:
        Settings.model_validate({"pool_maxi": 5})
    assert e.value.field == "pool_maxi"
    with pytest.raises(InvalidInput, match="no field 'schema_name'; did you mean schema"):
        Settings.model_validate({"schema_name": "x"})


def test_pool_bounds() -> None:
    with pytest.raises(InvalidInput, match="pool_min is 20; expected at most pool_max") as caught:
        Settings(pool_min=20)
    assert caught.value.field == "pool_min"
    assert Settings(pool_min=20, pool_max=20).pool_min == 20


def test_schema_is_read_under_its_own_name() -> None:
    settings = Settings(schema="jobs_1")
    assert settings.schema == "jobs_1"
    assert settings.model_copy(update={"pool_max": 2}).schema == "jobs_1"
    assert settings.model_copy(update={"schema": "other"}).schema == "other"
    with pytest.raises(InvalidInput):
        settings.model_copy(update={"schema": "No"})
