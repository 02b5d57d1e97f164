"""The error tree: one root, facts as attributes, picklable."""

from __future__ import annotations

import copy
import inspect
import pickle
from uuid import UUID

import pytest

from pandora_db import errors
from pandora_db.errors import PandoraDbError

OPERATION = UUID(int=5)
EXAMPLES: list[PandoraDbError] = [
    errors.PandoraDbError("x"),
    errors.InvalidInput("x", field="author"),
    errors.UnknownCode("stage", 42, "0 QUEUED"),
    errors.NotFound(5),
    errors.Duplicate("external_id", "x"),
    errors.ForeignKeyViolation("x", constraint="c"),
    errors.InvalidTransition(5, "FAILED", "QUEUED", "use retry_job"),
    errors.QueueFull(5),
    errors.WriteRefused("job 5 stayed as it was"),
    errors.OutcomeUnknown(OPERATION, "insert_job"),
    errors.ExecutionFailed("ffmpeg ended", code=1),
    errors.JobCancelled(5, "not wanted"),
    errors.Interrupted("pause"),
    errors.Serialization("x", field="sources"),
    errors.SchemaMissing("the table jobs is missing"),
    errors.SchemaTooNew(9, 1),
    errors.SchemaChanged("0001_jobs"),
    errors.ForeignSchema("x", differences=["a", "b"]),
    errors.ConnectionFailed("x", target="h:5432/db"),
    errors.InsideTransaction("get_job"),
    errors.HandleForked(),
]
CLASSES = [
    member
    for _, member in inspect.getmembers(errors, inspect.isclass)
    if issubclass(member, BaseException) and member.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_survive_pickling_and_copying(error: PandoraDbError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_of_the_tree_and_drawn_in_it(kind: type) -> None:
    assert issubclass(kind, PandoraDbError)
    assert errors.__doc__ is not None
    assert kind.__name__ in errors.__doc__
    assert kind.__doc__


def test_builtin_families() -> None:
    assert issubclass(errors.InvalidInput, ValueError)
    assert issubclass(errors.UnknownCode, errors.InvalidInput)
    assert issubclass(errors.NotFound, LookupError)
    for kind in (errors.PoolTimeout, errors.StatementTimeout, errors.LockTimeout):
        # `except TimeoutError` around one's own I/O must not swallow the database's trouble.
        assert not issubclass(kind, OSError)


def test_messages_say_what_to_do() -> None:
    assert "init_schema()" in str(errors.SchemaMissing("the table jobs is missing"))
    assert "upgrade pandora_db" in str(errors.SchemaTooNew(9, 1))
    assert str(OPERATION) in str(errors.OutcomeUnknown(OPERATION, "insert_job"))
    assert "operation_id" not in str(errors.OutcomeUnknown(None, "insert_job"))
    assert str(errors.ForeignSchema("no", differences=["a", "b"])) == "no\n  - a\n  - b"
