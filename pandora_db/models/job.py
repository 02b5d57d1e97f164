"""`Job`: what a caller hands to `insert_job`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, cast

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from pandora_db.errors import InvalidInput
from pandora_db.models import limits
from pandora_db.models.base import InputModel
from pandora_db.models.checks import (
    EXPECTED_CONFIG,
    EXPECTED_MOMENT,
    EXPECTED_TAGS,
    EXPECTED_TIME,
    Json,
    check_json,
    check_moment,
    check_tags,
    check_time,
    expected_int,
    expected_text,
    path_text,
    refuse,
)
from pandora_db.models.job_type import JobType
from pandora_db.models.pipeline import pipeline_of
from pandora_db.models.preset import Preset
from pandora_db.models.stage import MEMBERS, Stage, StageCode, stage_info, stage_of

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from datetime import datetime

_NO_NUL = r"^[^\x00]*$"
_ENCODE = JobType.ENCODE  # found at once; the member of an enum is not
EXPECTED_STAGE = "a stage of a pipeline, such as Stage.QUEUED"
EXPECTED_TYPE = "a JobType, such as JobType.ENCODE, or its number"


def _stage(value: object) -> StageCode:
    if type(value) is Stage:
        return value
    if type(value) is int:
        return stage_of(value, "ready")
    if not isinstance(value, StageCode):
        refuse("ready", value, EXPECTED_STAGE)
    known = MEMBERS.get(value)
    if known is None or known.name != value.name:
        refuse("ready", value, f"{EXPECTED_STAGE}; this enum was not given to define_pipeline()")
    return known


def _job_type(value: object) -> JobType:
    if type(value) is int:
        return JobType(value)
    if type(value) is not JobType:
        refuse("job_type", value, EXPECTED_TYPE)
    return value


def _seconds(value: object) -> object:
    return None if value is None else check_time(value, "requested_at")


def _moment(value: object) -> object:
    return None if value is None else check_moment(value, "not_before")


def _config(value: object) -> object:
    if value is None:
        return None
    if not isinstance(value, dict):
        refuse("config", value, EXPECTED_CONFIG)
    return check_json(cast("object", value), "config")


_Id = Annotated[int, Field(strict=True, ge=0, le=limits.MAX_ID)]
_Key = Annotated[str, Field(strict=True, min_length=1, max_length=limits.MAX_KEY, pattern=_NO_NUL)]


class Job(InputModel):
    """A request for one job (seed: libpndb).

    Only `author` must be given. Whatever is refused raises `InvalidInput` with `.field`, from the
    constructor, `model_validate` and `model_copy` alike; an unknown stage or type number raises
    `UnknownCode`. Ids are ints of 0 … 2^63-1; numbers as text, floats and bools are refused.

    Attributes:
        author: the name as shown, 1 to 256 characters.
        link: where the source file is, at most 8,192 characters.
        preset: how to encode.
        job_type: the pipeline; when only `ready` is given, the one of that stage.
        job_id: an id of the caller's own; None has one generated.
        ready: the stage to start at; when only `job_type` is given, the first of that pipeline.
        message_id: Discord message to update; 0 for none.
        channel_id: Discord channel of that message; 0 for none.
        directory: working directory, at most 4,096 characters; given as text or path, kept as text.
        requested_at: unix seconds; given as int or aware datetime (rounded down to the second).
            None takes the database's clock.
        author_id: the user's id, which identifies where a name does not.
        guild_id: Discord guild.
        external_id: an id of another system, unique among all jobs.
        idempotency_key: a second insert with the same key returns the first job.
        priority: higher goes first, -32767 … 32767.
        config: settings of the job as JSON; see `check_json` for what is taken.
        name: what kind of job it is, where one pipeline serves several; workers may claim by it.
        tags: what a worker must offer to claim the job, such as "gpu"; kept sorted.
        concurrency_key: jobs of one key can be kept from being worked on at once; see `Limits`.
        not_before: no worker may claim the job earlier; given as aware datetime or unix seconds.
        max_attempts: how often the job is tried at a stage before it fails; None for the default.
        params: the input as dispatched, at most 1 MiB; it never changes. In JSON it is base64.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    author: Annotated[
        str, Field(strict=True, min_length=1, max_length=limits.MAX_AUTHOR, pattern=_NO_NUL)
    ]
    link: Annotated[str, Field(strict=True, max_length=limits.MAX_LINK, pattern=_NO_NUL)] = ""
    preset: Annotated[Preset, Field(strict=True)] = Preset.STANDARD
    job_type: Annotated[JobType, PlainValidator(_job_type), WithJsonSchema({"type": "integer"})] = (
        JobType.ENCODE
    )
    job_id: _Id | None = None
    ready: Annotated[StageCode, PlainValidator(_stage), WithJsonSchema({"type": "integer"})] = (
        Stage.QUEUED
    )
    message_id: _Id = 0
    channel_id: _Id = 0
    directory: Annotated[
        str,
        Field(strict=True, max_length=limits.MAX_PATH, pattern=_NO_NUL),
        BeforeValidator(path_text),
    ] = ""
    requested_at: Annotated[int | None, BeforeValidator(_seconds)] = None
    author_id: _Id | None = None
    guild_id: _Id | None = None
    external_id: _Key | None = None
    idempotency_key: _Key | None = None
    priority: Annotated[int, Field(strict=True, ge=limits.MIN_PRIORITY, le=limits.MAX_PRIORITY)] = 0
    config: Annotated[dict[str, Any] | None, BeforeValidator(_config)] = None
    name: _Key | None = None
    tags: Annotated[tuple[str, ...], BeforeValidator(check_tags)] = ()
    concurrency_key: _Key | None = None
    not_before: Annotated[float | None, BeforeValidator(_moment)] = None
    max_attempts: Annotated[int, Field(strict=True, ge=1, le=limits.MAX_ATTEMPTS)] | None = None
    params: Annotated[
        bytes | None, Field(strict=True, max_length=limits.MAX_PARAMS, repr=False)
    ] = None

    if TYPE_CHECKING:
        # The fields have the types they are kept in; the constructor takes more.
        def __init__(
            self,
            *,
            author: str,
            link: str = "",
            preset: Preset = Preset.STANDARD,
            job_type: JobType | int = JobType.ENCODE,
            job_id: int | None = None,
            ready: StageCode | int = Stage.QUEUED,
            message_id: int = 0,
            channel_id: int = 0,
            directory: str | os.PathLike[str] = "",
            requested_at: int | datetime | None = None,
            author_id: int | None = None,
            guild_id: int | None = None,
            external_id: str | None = None,
            idempotency_key: str | None = None,
            priority: int = 0,
            config: Mapping[str, Json] | None = None,
            name: str | None = None,
            tags: Iterable[str] = (),
            concurrency_key: str | None = None,
            not_before: float | datetime | None = None,
            max_attempts: int | None = None,
            params: bytes | None = None,
        ) -> None: ...

    expected: ClassVar[Mapping[str, str]] = {
        "author": expected_text(1, limits.MAX_AUTHOR),
        "link": expected_text(0, limits.MAX_LINK),
        "preset": "a Preset, such as Preset.STANDARD",
        "job_type": EXPECTED_TYPE,
        "job_id": expected_int(0, limits.MAX_ID) + ", or None to have one generated",
        "ready": EXPECTED_STAGE,
        "message_id": expected_int(0, limits.MAX_ID),
        "channel_id": expected_int(0, limits.MAX_ID),
        "directory": "a path or " + expected_text(0, limits.MAX_PATH),
        "requested_at": EXPECTED_TIME + ", or None for the database's clock",
        "author_id": expected_int(0, limits.MAX_ID) + ", or None",
        "guild_id": expected_int(0, limits.MAX_ID) + ", or None",
        "external_id": expected_text(1, limits.MAX_KEY) + ", or None",
        "idempotency_key": expected_text(1, limits.MAX_KEY) + ", or None",
        "priority": expected_int(limits.MIN_PRIORITY, limits.MAX_PRIORITY),
        "config": EXPECTED_CONFIG,
        "name": expected_text(1, limits.MAX_KEY) + ", or None",
        "tags": EXPECTED_TAGS,
        "concurrency_key": expected_text(1, limits.MAX_KEY) + ", or None",
        "not_before": EXPECTED_MOMENT + ", or None",
        "max_attempts": expected_int(1, limits.MAX_ATTEMPTS) + ", or None",
        "params": f"at most {limits.MAX_PARAMS} bytes of MessagePack, or None",
    }

    @model_validator(mode="after")
    def _settle_pipeline(self) -> Self:
        """Let stage and type agree: the one that was not given follows the other."""
        ready, job_type = self.ready, self.job_type
        if type(ready) is Stage and job_type is _ENCODE:
            return self
        pipeline = pipeline_of(stage_info(ready).pipeline)
        if pipeline.job_type == job_type:
            return self
        given = self.model_fields_set
        if "ready" not in given:
            object.__setattr__(self, "ready", pipeline_of(job_type).start)
        elif "job_type" not in given:
            object.__setattr__(self, "job_type", pipeline.job_type)
        else:
            wanted = pipeline_of(job_type)
            raise InvalidInput(
                f"ready is {ready.name} of the pipeline {pipeline}; the job's is {wanted}",
                field="ready",
            )
        return self
