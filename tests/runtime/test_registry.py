"""Jobs are registered by name, made of JSON, and kept as MessagePack without what is transient."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from pandora_db import InvalidInput, Serialization
from pandora_db.runtime import (
    REGISTRY,
    Done,
    FileCopyOutput,
    JobContext,
    Registry,
    Snooze,
    job,
)


class Copy(BaseModel):
    sources: list[Path]
    destination: Path
    since: datetime | None = None
    done: set[int] = Field(default_factory=set)
    connection: object = Field(default_factory=object, exclude=True)
    _began: float = PrivateAttr(default_factory=time.monotonic)

    async def run(self, ctx: JobContext) -> FileCopyOutput | Snooze:
        raise NotImplementedError


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    at: datetime
    path: Path

    async def run(self, ctx: JobContext) -> None: ...


@pytest.fixture
def registry() -> Registry:
    made = Registry()
    made.job(name="file_copy", description="Copy files", version=2)(Copy)
    made.job(name="strict", resumable=False)(Strict)
    return made


def test_what_is_registered_is_found(registry: Registry) -> None:
    assert registry.job_names() == ["file_copy", "strict"]
    assert registry.has_job("file_copy")
    assert not registry.has_job("index")
    found = registry.get("file_copy")
    assert (found.kind, found.resumable, found.description, found.version) == (
        Copy, True, "Copy files", 2,
    )  # fmt: skip
    assert not registry.get("strict").resumable


def test_the_schema_names_the_parameters(registry: Registry) -> None:
    schema = registry.get_job_schema("file_copy")
    assert schema is not None
    assert set(schema["required"]) == {"sources", "destination"}
    assert registry.get_job_schema("index") is None


@pytest.mark.parametrize(
    "params", ['{"sources": ["/a"], "destination": "/b"}', {"sources": ["/a"], "destination": "/b"}]
)
def test_a_job_is_made_of_json(registry: Registry, params: object) -> None:
    made = registry.create_job("file_copy", params)
    assert isinstance(made, Copy)
    assert made.sources == [Path("/a")]


def test_a_job_comes_back_from_bytes_and_transient_fields_are_new(registry: Registry) -> None:
    given = Copy(sources=[Path("/a")], destination=Path("/b"), since=datetime.now(UTC), done={1, 2})
    blob = registry.serialize_job(given)
    again = registry.deserialize_job("file_copy", blob)
    assert isinstance(again, Copy)
    assert again.model_dump() == given.model_dump()
    assert again.connection is not given.connection
    assert again._began > 0
    assert b"connection" not in blob
    strict = Strict(at=datetime.now(UTC), path=Path("/a"))
    assert registry.deserialize_job("strict", registry.serialize_job(strict)) == strict


def test_an_unknown_name_names_those_that_are_close(registry: Registry) -> None:
    for call in (
        lambda: registry.create_job("file_cpy", {}),
        lambda: registry.deserialize_job("file_cpy", b""),
    ):
        with pytest.raises(InvalidInput, match=r"did you mean file_copy\?") as refused:
            call()
        assert refused.value.field == "name"
    with pytest.raises(InvalidInput, match="known are"):
        registry.get(None)


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"destination": "/b"}, "sources"),
        ({"sources": "/a", "destination": "/b"}, "sources"),
        ({"sources": [5], "destination": "/b"}, "sources.0"),
        ("{", None),
    ],
)
def test_parameters_that_do_not_fit_name_the_field(
    registry: Registry, params: object, field: str | None
) -> None:
    with pytest.raises(InvalidInput, match="file_copy: ") as refused:
        registry.create_job("file_copy", params)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (b"", "cannot be read"),
        (b"\xc1", "cannot be read"),
        (b"\x01", "cannot be read"),
        (b"\x82\xa7version\x03\xa6fields\x80", "of version 3, this program knows 2"),
        (b"\x82\xa7version\x02\xa6fields\x80", "sources"),
    ],
)
def test_bytes_that_are_no_such_job_are_refused(registry: Registry, blob: bytes, said: str) -> None:
    with pytest.raises(Serialization, match=said):
        registry.deserialize_job("file_copy", blob)


def test_a_newer_class_reads_what_an_older_one_kept() -> None:
    old, new = Registry(), Registry()

    @old.job(name="count")
    class Old(BaseModel):
        until: int

        async def run(self, ctx: JobContext) -> None: ...

    @new.job(name="count", version=2)
    class New(BaseModel):
        first: int
        last: int

        async def run(self, ctx: JobContext) -> None: ...

        @classmethod
        def upgrade(cls, fields: dict[str, Any], version: int) -> dict[str, Any]:
            assert version == 1
            return {"first": 0, "last": fields["until"]}

    blob = old.serialize_job(Old(until=5))
    assert new.deserialize_job("count", blob) == New(first=0, last=5)
    with pytest.raises(Serialization, match="of version 2, this program knows 1"):
        old.deserialize_job("count", new.serialize_job(New(first=0, last=5)))


def test_what_makes_no_job_is_refused(registry: Registry) -> None:
    with pytest.raises(InvalidInput, match=r"registered already: .*Copy"):
        registry.job(name="file_copy")(Strict)
    with pytest.raises(InvalidInput, match="pydantic model"):
        registry.job(name="x")(int)  # type: ignore[type-var]

    class Idle(BaseModel):
        pass

    with pytest.raises(InvalidInput, match="async def run"):
        registry.job(name="idle")(Idle)

    class Plain(BaseModel):
        def run(self, ctx: JobContext) -> None: ...

    with pytest.raises(
        InvalidInput, match=r"Plain\.run is no async function; expected `async def run"
    ):
        registry.job(name="plain")(Plain)

    class Alone(BaseModel):
        async def run(self) -> None: ...

    with pytest.raises(
        InvalidInput, match=r"Alone\.run\(self\) -> 'None' cannot be called with a c"
    ):
        registry.job(name="alone")(Alone)

    class Lost(BaseModel):
        connection: object = Field(exclude=True)

        async def run(self, ctx: JobContext) -> None: ...

    with pytest.raises(InvalidInput, match="has no default") as refused:
        registry.job(name="lost")(Lost)
    assert refused.value.field == "connection"
    with pytest.raises(InvalidInput, match="not registered"):
        registry.serialize_job(Idle())
    a_class: Any = Strict
    with pytest.raises(InvalidInput, match=r"expected a job, not its class: Strict\(…\)$"):
        registry.serialize_job(a_class)
    assert registry.job_names() == ["file_copy", "strict"]


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        (FileCopyOutput(copied_count=1, total_bytes=2), "file_copy"),
        (Done(FileCopyOutput(copied_count=1, total_bytes=2), "mine"), "mine"),
    ],
)
def test_an_output_has_a_kind(registry: Registry, value: object, outcome: str) -> None:
    read = registry.get("file_copy").read_output(value)
    assert isinstance(read, Done)
    assert read.kind == outcome


@pytest.mark.parametrize("value", [None, {"copied_count": "1", "total_bytes": 2}, 5])
def test_a_wrong_output_fails_the_job_for_good(registry: Registry, value: object) -> None:
    read: Any = registry.get("file_copy").read_output(value)
    assert read.final
    assert "is not the output that it names" in str(read.error)
    assert registry.get("file_copy").read_output(Snooze(5)) == Snooze(5)


def test_the_default_registry_is_the_one_of_the_decorator() -> None:
    assert job == REGISTRY.job


def test_installed_packages_name_their_jobs(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [
        metadata.EntryPoint("mine", f"{__name__}:register_strict", "pandora_db.jobs"),
        metadata.EntryPoint("broken", "no.such.module", "pandora_db.jobs"),
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda **_: points)
    monkeypatch.setattr(metadata.EntryPoint, "load", _load)
    assert registry.load_entry_points() == ["mine"]
    assert registry.has_job("by_entry_point")


def register_strict(registry: Registry) -> None:
    registry.job(name="by_entry_point")(Strict)


def _load(point: metadata.EntryPoint) -> object:
    if point.name == "broken":
        raise ModuleNotFoundError(point.value)
    return register_strict
