"""Jobs are registered by name, made of JSON, and kept as MessagePack without what is transient."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgpack
import pytest
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from pandora_db import InvalidInput, Serialization
from pandora_db.runtime import (
    REGISTRY,
    Done,
    Fail,
    FileCopyOutput,
    IndexedOutput,
    JobContext,
    JobOutput,
    MediaProcessedOutput,
    Registry,
    Snooze,
    job,
)
from pandora_db.runtime.outcomes import plain_output

if TYPE_CHECKING:
    from pandora_db.runtime import JobContext as Known


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


class Stricter(Strict):
    pass


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
    made = found.create({"sources": ["/a"], "destination": "/b"})
    again = found.unpack(found.pack(made))
    assert isinstance(again, Copy)
    assert again.sources == [Path("/a")]


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
    given._began = -1.0
    blob = registry.serialize_job(given)
    again = registry.deserialize_job("file_copy", blob)
    assert isinstance(again, Copy)
    assert again.model_dump() == given.model_dump()
    assert again.connection is not given.connection
    assert again._began > 0
    fields = msgpack.unpackb(blob)["fields"]
    assert set(fields) == {"sources", "destination", "since", "done"}
    strict = Strict(at=datetime.now(UTC), path=Path("/a"))
    assert registry.deserialize_job("strict", registry.serialize_job(strict)) == strict


def test_the_state_leaves_out_what_is_transient_and_makes_it_anew(registry: Registry) -> None:
    given = Copy(sources=[Path("/a")], destination=Path("/b"), done={1})
    given._began = -1.0
    definition = registry.get("file_copy")
    state, version = definition.state(given)
    assert isinstance(state, dict)
    assert set(state) == {"sources", "destination", "since", "done"}
    again = definition.restore(state)
    assert isinstance(again, Copy)
    assert (again.done, version) == ({1}, 2)
    assert again.connection is not given.connection
    assert again._began > 0


def test_what_cannot_be_kept_is_refused() -> None:
    made = Registry()

    @made.job(name="holds")
    class Holds(BaseModel):
        thing: Any

        async def run(self, ctx: JobContext) -> None: ...

    for thing in (object(), 2**64):
        with pytest.raises(Serialization, match=r"^holds cannot be kept: "):
            made.serialize_job(Holds(thing=thing))


@pytest.mark.parametrize(
    "params",
    [
        {"sources": ["/path/to/file1", "/path/to/file2"], "destination": "/path/to/dest"},
        {"sources": [f"/{n}" for n in range(99)], "destination": "/b", "done": [*range(99)]},
    ],
)
def test_kept_parameters_take_less_room_than_as_json(registry: Registry, params: Any) -> None:
    job = registry.create_job("file_copy", params)
    assert len(registry.serialize_job(job)) < len(job.model_dump_json())


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
    with pytest.raises(InvalidInput, match=r"^job is the class int; expected a pydantic model$"):
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


def test_a_class_has_one_name_in_a_registry(registry: Registry) -> None:
    with pytest.raises(
        InvalidInput, match=r"^Strict is registered already, as 'strict'; expected a subclass of it"
    ):
        registry.job(name="other")(Strict)
    assert not registry.has_job("other")
    registry.job(name="other")(Stricter)
    given = Stricter(at=datetime.now(UTC), path=Path("/a"))
    assert registry.definition_of(given).name == "other"
    Registry().job(name="other")(Strict)


def test_only_the_type_of_the_output_is_looked_up() -> None:
    made = Registry()

    @made.job(name="unseen")
    class Unseen(BaseModel):
        async def run(self, ctx: Known) -> list[IndexedOutput] | Snooze: ...  # type: ignore[empty-body]

    given = IndexedOutput(total_files=1, total_dirs=2, total_bytes=3)
    assert isinstance(made.get("unseen").read_output([given]), Done)
    assert isinstance(made.get("unseen").read_output(given), Fail)


def test_an_output_of_no_known_type_is_refused() -> None:
    made = Registry()

    class Lost(BaseModel):
        async def run(self, ctx: JobContext) -> Known | None: ...

    class Odd(BaseModel):
        async def run(self, ctx: JobContext) -> metadata.EntryPoints: ...  # type: ignore[empty-body]

    for kind, said in (
        (Lost, r"^Lost\.run is annotated to return Known \| None: name 'Known' is not defined; "),
        (Odd, r"^Odd\.run is annotated to return metadata\.EntryPoints: Unable to generate .*Any$"),
    ):
        with pytest.raises(InvalidInput, match=said) as refused:
            made.job(name="lost")(kind)
        assert refused.value.field == "run"
    assert made.job_names() == []


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


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (IndexedOutput(total_files=1, total_dirs=2, total_bytes=3), "indexed"),
        (MediaProcessedOutput(thumbnails_generated=1, metadata_extracted=2), "media_processed"),
        ({"any": ["JSON", 1]}, "custom"),
        (5, "custom"),
        (None, None),
    ],
)
def test_whatever_is_returned_has_a_kind(value: object, kind: str | None) -> None:
    made = Registry()

    @made.job(name="any")
    class Whatever(BaseModel):
        async def run(self, ctx: JobContext) -> Any: ...

    assert made.get("any").read_output(value) == Done(plain_output(value), kind)


def test_an_output_refuses_what_it_would_not_keep() -> None:
    fields: Any = {"copied_count": 1, "total_bytes": 2, "failed": 3}
    with pytest.raises(ValidationError, match="failed"):
        FileCopyOutput(**fields)
    with pytest.raises(ValidationError, match="a"):
        JobOutput(a=1)  # type: ignore[call-arg]


@pytest.mark.parametrize("value", [None, {"copied_count": "1", "total_bytes": 2}, 5])
def test_a_wrong_output_fails_the_job_for_good(registry: Registry, value: object) -> None:
    read: Any = registry.get("file_copy").read_output(value)
    assert read.final
    assert "is not the output that it names" in str(read.error)
    assert registry.get("file_copy").read_output(Snooze(5)) == Snooze(5)


def test_the_default_registry_is_the_one_of_the_decorator() -> None:
    assert job == REGISTRY.job


def test_installed_packages_name_their_jobs(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    points = [
        metadata.EntryPoint("mine", f"{__name__}:register_strict", "pandora_db.jobs"),
        metadata.EntryPoint("broken", "no.such.module", "pandora_db.jobs"),
        metadata.EntryPoint("module", "one_of_theirs", "pandora_db.jobs"),
    ]
    (tmp_path / "one_of_theirs.py").write_text("imported = True")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(
        metadata, "entry_points", lambda group: points if group == "pandora_db.jobs" else []
    )
    assert registry.load_entry_points() == ["mine", "module"]
    assert registry.has_job("by_entry_point")
    assert sys.modules.pop("one_of_theirs").imported


def register_strict(registry: Registry) -> None:
    registry.job(name="by_entry_point")(Stricter)
