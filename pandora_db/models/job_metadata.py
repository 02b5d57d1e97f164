"""`JobMetadata`: a job for people and programs, with everything decoded."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

from pandora_db.errors import InvalidInput
from pandora_db.models.checks import decode_json
from pandora_db.models.job_type import JobType
from pandora_db.models.preset import Preset
from pandora_db.models.stage import StageCode, stage_of
from pandora_db.models.status import Hold, JobStatus, status_of

if TYPE_CHECKING:
    from pandora_db.models.job_row import JobRow

Id = Annotated[int, PlainSerializer(str, return_type=str, when_used="json-unless-none")]
"""A 64-bit id: text in JSON, where many readers keep only 53 bits of a number."""


def _name(member: Preset | StageCode | JobType | Hold) -> str:
    return member.name


_PresetName = Annotated[Preset, PlainSerializer(_name, return_type=str, when_used="json")]
_StageName = Annotated[
    StageCode,
    PlainSerializer(_name, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string"}),
]
_TypeName = Annotated[
    JobType,
    PlainSerializer(_name, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string"}),
]
_HoldName = Annotated[Hold, PlainSerializer(_name, return_type=str, when_used="json")]


class JobMetadata(BaseModel):
    """A decoded job (seed: libpndb), made by `JobRow.to_job_metadata()`.

    Times are aware, in UTC. `directory` is None where none was given. In JSON, ids are text,
    enums are their names, and `params` is base64.
    """

    model_config = ConfigDict(frozen=True, defer_build=True, ser_json_bytes="base64")

    job_id: Id
    author: str
    requested_at: datetime
    job_type: _TypeName
    preset: _PresetName
    link: str
    directory: Path | None
    ready: _StageName
    status: JobStatus
    message_id: Id
    channel_id: Id
    created_at: datetime | None
    completed_at: datetime | None
    archived: bool
    author_id: Id | None
    guild_id: Id | None
    external_id: str | None
    idempotency_key: str | None
    priority: int
    attempt: int
    hold: _HoldName
    progress: float | None
    progress_data: Any
    current_step: str | None
    output_kind: str | None
    output: Any
    output_file: str | None
    error: str | None
    config: dict[str, Any] | None
    updated_at: datetime | None
    name: str | None
    tags: tuple[str, ...]
    concurrency_key: str | None
    not_before: datetime | None
    max_attempts: int | None
    params: bytes | None = Field(repr=False)

    @classmethod
    def from_row(cls, row: JobRow) -> JobMetadata:
        """Decode `row`; see `JobRow.to_job_metadata`. NULLs of another program become '' and 0."""
        return cls(
            job_id=row.job_id,
            author=row.author or "",
            requested_at=_time(row.requested_at, "requested_at"),
            job_type=JobType(row.job_type),
            preset=Preset((row.preset, row.preset_concat)),
            link=row.link or "",
            directory=Path(row.directory) if row.directory else None,
            ready=stage_of(row.ready),
            status=status_of(row.ready, row.hold),
            message_id=row.message_id or 0,
            channel_id=row.channel_id or 0,
            created_at=row.created_at,
            completed_at=row.completed_at,
            archived=bool(row.archived),
            author_id=row.author_id,
            guild_id=row.guild_id,
            external_id=row.external_id,
            idempotency_key=row.idempotency_key,
            priority=row.priority,
            attempt=row.attempt,
            hold=Hold(row.hold),
            progress=row.progress,
            progress_data=decode_json(row.progress_data, "progress_data"),
            current_step=row.current_step,
            output_kind=row.output_kind,
            output=decode_json(row.output, "output"),
            output_file=row.output_file,
            error=row.error,
            config=_config(row.config),
            updated_at=row.updated_at,
            name=row.name,
            tags=_tags(row.tags),
            concurrency_key=row.concurrency_key,
            not_before=None if row.not_before is None else _time(row.not_before, "not_before"),
            max_attempts=row.max_attempts,
            params=row.params,
        )


def _time(seconds: float, field: str) -> datetime:
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError, TypeError):
        raise InvalidInput(
            f"{field} {seconds} is no time in unix seconds that a datetime can hold", field=field
        ) from None


def _tags(text: str | None) -> tuple[str, ...]:
    value = decode_json(text, "tags")
    return tuple(map(str, value)) if isinstance(value, list) else ()


def _config(text: str | None) -> dict[str, Any] | None:
    value = decode_json(text, "config")
    if value is None or isinstance(value, dict):
        return value
    raise InvalidInput("config holds JSON that is no object", field="config")
