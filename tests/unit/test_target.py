"""A password is kept, handed over, and shown nowhere."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest

from pandora_db.dsn import PostgresTarget, Secret, parse_dsn
from pandora_db.errors import InvalidInput

SECRET = "hunter2"  # noqa: S105


def test_the_password_shows_nowhere() -> None:
    target = parse_dsn(f"postgresql://u:{SECRET}@h/db", {})
    assert isinstance(target, PostgresTarget)
    secret = target.password
    assert secret is not None
    shown = [
        repr(target),
        str(target),
        f"{target} {target!r} {secret} {secret!r} {secret:>10}",
        "%s %r" % (secret, secret),  # noqa: UP031 - the old form must not leak either
        repr(vars(target)),
        repr(dataclasses.asdict(target)),
        repr(dataclasses.astuple(target)),
        repr(copy.deepcopy(target)),
        repr([secret]),
        repr(pickle.dumps(target)),
        repr(pickle.dumps(secret, 0)),
    ]
    assert SECRET not in "".join(shown)
    assert "***" in repr(target)
    with pytest.raises(TypeError):
        vars(secret)


def test_a_pickled_target_says_what_it_lost() -> None:
    target = pickle.loads(pickle.dumps(parse_dsn(f"postgresql://u:{SECRET}@h/db", {})))  # noqa: S301
    assert target.describe() == "h:5432/db"
    with pytest.raises(InvalidInput, match="left out when this target was pickled"):
        target.connect_arguments()


def test_secrets_compare_by_text() -> None:
    assert Secret("ä") == Secret("ä")
    assert hash(Secret("a")) == hash(Secret("b"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert copy.copy(Secret("a")) == copy.deepcopy(Secret("a"))
    lost = pickle.loads(pickle.dumps(Secret("a")))  # noqa: S301
    assert lost != Secret("a")
