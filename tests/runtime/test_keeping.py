"""What is dispatched, checkpointed and returned comes back as it was, or is refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    Json,
    PrivateAttr,
    SecretStr,
    computed_field,
    field_serializer,
    field_validator,
)
from pydantic_core import core_schema

from pandora_db import ExecutionFailed, InvalidInput, JobDb, Serialization
from pandora_db.runtime import JobContext, JobManager, JobOutput, Registry, Snooze
from tests.support.handlers import FAST

OPTIONS: dict[str, Any] = {**FAST, "retry_in": 0.0}
REGISTRY = Registry()


class Size(BaseModel):
    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)
    width: int = Field(alias="w")
    _seen: object = PrivateAttr(default_factory=object)
    cache: object = Field(default_factory=object, exclude=True)

    @computed_field
    @property
    def twice(self) -> int:
        return 2 * self.width


class Wide(Size):
    pass


class Colour(StrEnum):
    RED = "red"


class Made(JobOutput):
    sizes: list[Size] = Field(alias="Sizes")

    @computed_field
    @property
    def count(self) -> int:
        return len(self.sizes)


@REGISTRY.job(name="named")
class Named(BaseModel):
    model_config = ConfigDict(extra="forbid")
    first: Size = Field(alias="second")
    second: int = Field(5, validation_alias="number", serialization_alias="nr")
    begun: int = Field(0, alias="Begun")

    @computed_field
    @property
    def total(self) -> int:
        return self.first.width + self.second

    async def run(self, ctx: JobContext) -> Made | Snooze:
        self.begun += 1
        await ctx.checkpoint(force=True)
        if self.begun < 3:
            return Snooze(0)
        return Made(Sizes=[self.first, Size(w=self.second), Size(w=self.begun)])


@REGISTRY.job(name="secret")
class Secret(BaseModel):
    password: SecretStr

    async def run(self, ctx: JobContext) -> None: ...


@REGISTRY.job(name="spawns")
class Spawns(BaseModel):
    async def run(self, ctx: JobContext) -> None:
        for password in ("one", "two"):
            await ctx.spawn(Secret(password=SecretStr(password)))


async def test_fields_with_aliases_and_computed_ones_come_back_as_they_were(db: JobDb) -> None:
    async with JobManager(db, REGISTRY, **OPTIONS) as jobs:
        given: Any = {"second": {"w": 7}, "number": 9}
        for handle in (
            await jobs.dispatch_by_name("named", given),
            await jobs.dispatch(Named.model_validate(given)),
        ):
            made = await handle.result(10)
            assert isinstance(made, Made)
            assert [size.width for size in made.sizes] == [7, 9, 3]
            assert made.count == 3


async def test_a_secret_is_refused_before_anything_is_stored(db: JobDb) -> None:
    jobs = JobManager(db, REGISTRY, **OPTIONS)
    with pytest.raises(Serialization, match=r"Secret\.password, a SecretStr, would") as refused:
        await jobs.dispatch(Secret(password=SecretStr("hunter2")))
    assert refused.value.field == "password"
    assert "hunter2" not in str(refused.value)
    async with jobs:
        parent = await jobs.dispatch(Spawns(), max_attempts=1)
        with pytest.raises(ExecutionFailed, match="a SecretStr, would come back as another value"):
            await parent.result(10)
    assert [info.id for info in await jobs.list_jobs()] == [parent.id]


async def test_an_output_that_no_longer_fits_says_so(db: JobDb) -> None:
    old, new = Registry(), Registry()

    @old.job(name="count")
    class Old(BaseModel):
        async def run(self, _ctx: JobContext) -> int:
            return 5

    @new.job(name="count")
    class New(BaseModel):
        async def run(self, _ctx: JobContext) -> list[int]:
            return []

    async with JobManager(db, old, **OPTIONS) as jobs:
        handle = await jobs.dispatch(Old())
        assert await handle.result(10) == 5
        changed = await JobManager(db, new).handle(handle.id)
        assert changed is not None
        with pytest.raises(Serialization, match=r"^the output of count: Input should be a valid"):
            await changed.result(10)


@dataclass
class Plain:
    sizes: list[Size]
    ratio: float = math.nan


class Strange:
    """Holds nothing by which two could be told apart."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        shape = core_schema.no_info_plain_validator_function(lambda _: cls())
        shape["serialization"] = core_schema.plain_serializer_function_ser_schema(lambda _: "it")
        return shape


@REGISTRY.job(name="all")
class Everything(BaseModel):
    anything: Any = None
    size: Size | None = None
    plain: Plain | None = None
    numbers: dict[int, tuple[float, ...]] = Field(default_factory=dict[int, tuple[float, ...]])
    by_pair: dict[tuple[int, int], int] = Field(default_factory=dict[tuple[int, int], int])
    path: str | Path = ""
    timeout: float = 5
    colour: Colour = Colour.RED
    text: Json[Any] = "null"
    names: set[str] = Field(default_factory=set[str])
    strange: Strange = Field(default_factory=Strange)
    doubled: int = 0

    @field_validator("doubled")
    @classmethod
    def _double(cls, value: int) -> int:
        return 2 * value

    async def run(self, ctx: JobContext) -> None: ...


@pytest.mark.parametrize(
    "make",
    [
        lambda: Everything(anything={"a": [1, None, {"b": "c"}]}),
        lambda: Everything(size=Size(w=1), plain=Plain([Size(w=2)])),
        lambda: Everything(numbers={1: (1, math.inf, math.nan)}, names=set("abcdef")),
        lambda: Everything(path="/a", colour=Colour.RED, text='{"a": [1]}'),
    ],
)
def test_what_json_keeps_comes_back(make: Callable[[], Everything]) -> None:
    given = make()
    again: Any = REGISTRY.deserialize_job("all", REGISTRY.serialize_job(given))
    apart = {"names", "strange", "timeout"}
    assert repr(again.model_dump(exclude=apart)) == repr(given.model_dump(exclude=apart))
    assert (again.names, again.timeout) == (given.names, given.timeout)


@pytest.mark.parametrize(
    ("make", "path", "kind"),
    [
        (lambda: Everything(anything=[{"a": (1, 2)}]), "anything.0.a", "tuple"),
        (lambda: Everything(anything=[Path("/a")]), "anything.0", "PosixPath"),
        (lambda: Everything(anything=[1, math.nan]), "anything.1", "float"),
        (lambda: Everything(anything=Colour.RED), "anything", "Colour"),
        (lambda: Everything(anything={1: 2}), "anything", "dict"),
        (lambda: Everything(size=Wide(w=1)), "size", "Wide"),
        (lambda: Everything(path=Path("/a")), "path", "PosixPath"),
        (lambda: Everything(doubled=1), "doubled", "int"),
    ],
)
def test_what_would_come_back_as_another_value_is_refused(
    make: Callable[[], Everything], path: str, kind: str
) -> None:
    with pytest.raises(Serialization) as refused:
        REGISTRY.serialize_job(make())
    assert refused.value.field == path
    said = f"all cannot be kept: Everything.{path}, a {kind}, would come back as another value; "
    assert str(refused.value).startswith(said)


def test_what_could_not_be_read_again_is_refused() -> None:
    with pytest.raises(Serialization, match=r"Everything does not take what JSON keeps of its") as (
        refused
    ):
        REGISTRY.serialize_job(Everything(by_pair={(1, 2): 3}))
    assert (refused.value.field or "").startswith("by_pair")


def test_a_serializer_of_its_own_keeps_a_secret() -> None:
    registry = Registry()

    @registry.job(name="told")
    class Told(BaseModel):
        password: SecretStr

        @field_serializer("password", when_used="json")
        def _tell(self, value: SecretStr) -> str:
            return value.get_secret_value()

        async def run(self, ctx: JobContext) -> None: ...

    given = Told(password=SecretStr("hunter2"))
    assert registry.deserialize_job("told", registry.serialize_job(given)) == given


def test_the_input_of_users_goes_by_the_rules_of_the_model() -> None:
    with pytest.raises(InvalidInput) as refused:
        REGISTRY.create_job("named", {"first": {"w": 7}})
    assert refused.value.field == "second"
