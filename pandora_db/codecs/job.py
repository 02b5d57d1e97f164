"""`Job` → the values of its columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pandora_db.codecs.json_text import encode_config, encode_tags

if TYPE_CHECKING:
    from pandora_db.models.job import Job

__all__ = ["JOB_COLUMNS", "encode_job"]

JOB_COLUMNS = (
    "job_id", "author", "requested_at", "job_type", "preset", "preset_concat", "link", "directory",
    "ready", "message_id", "channel_id", "author_id", "guild_id", "external_id", "idempotency_key",
    "priority", "config", "name", "tags", "concurrency_key", "not_before", "max_attempts",
    "params",
)  # fmt: skip
"""The columns that an insert gives values to, in their order."""


def encode_job(job: Job) -> dict[str, Any]:
    """The values to store for `job`, in the order of `JOB_COLUMNS`; JSON is text, codes are ints.

    Raises:
        InvalidInput: `config` was changed into something that JSON cannot hold, or is too large.
    """
    preset, preset_concat = job.preset.value
    return {
        "job_id": job.job_id,
        "author": job.author,
        "requested_at": job.requested_at,
        "job_type": job.job_type.value,
        "preset": preset,
        "preset_concat": preset_concat,
        "link": job.link,
        "directory": job.directory,
        "ready": job.ready.value,
        "message_id": job.message_id,
        "channel_id": job.channel_id,
        "author_id": job.author_id,
        "guild_id": job.guild_id,
        "external_id": job.external_id,
        "idempotency_key": job.idempotency_key,
        "priority": job.priority,
        "config": None if job.config is None else encode_config(job.config),
        "name": job.name,
        "tags": encode_tags(job.tags) if job.tags else None,
        "concurrency_key": job.concurrency_key,
        "not_before": job.not_before,
        "max_attempts": job.max_attempts,
        "params": job.params,
    }
