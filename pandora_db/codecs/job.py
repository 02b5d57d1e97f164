"""`Job` → the values of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pandora_db.codecs.json_text import encode_config

if TYPE_CHECKING:
    from pandora_db.models.job import Job

__all__ = ["JobColumns", "encode_job"]


class JobColumns(NamedTuple):
    """A job as it goes into the INSERT, in this order; JSON is text, codes are ints."""

    job_id: int | None
    author: str
    requested_at: int | None
    job_type: int
    preset: int
    preset_concat: int | None
    link: str
    directory: str
    ready: int
    message_id: int
    channel_id: int
    author_id: int | None
    guild_id: int | None
    external_id: str | None
    idempotency_key: str | None
    priority: int
    config: str | None


def encode_job(job: Job) -> JobColumns:
    """The values to store for `job`.

    Raises:
        InvalidInput: `config` was changed into something that JSON cannot hold, or is too large.
    """
    preset, preset_concat = job.preset.value
    return JobColumns(
        job.job_id,
        job.author,
        job.requested_at,
        job.job_type.value,
        preset,
        preset_concat,
        job.link,
        job.directory,
        job.ready.value,
        job.message_id,
        job.channel_id,
        job.author_id,
        job.guild_id,
        job.external_id,
        job.idempotency_key,
        job.priority,
        None if job.config is None else encode_config(job.config),
    )
