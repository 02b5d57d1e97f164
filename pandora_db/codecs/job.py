"""`Job` → the values of its columns."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from pandora_db.codecs.json_text import encode_config, encode_tags

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pandora_db.models.job import Job

__all__ = ["JOB_COLUMNS", "encode_job", "job_row"]

JOB_COLUMNS = (
    "job_id", "author", "requested_at", "job_type", "preset", "preset_concat", "link", "directory",
    "ready", "message_id", "channel_id", "author_id", "guild_id", "external_id", "idempotency_key",
    "priority", "config", "name", "tags", "concurrency_key", "not_before", "max_attempts",
    "params",
)  # fmt: skip
"""The columns that an insert gives values to, in their order."""


def encode_job(job: Job) -> dict[str, Any]:
    """The values to store for `job` by their columns; JSON is text, codes are ints.

    Raises:
        InvalidInput: `config` was changed into something that JSON cannot hold, or is too large.
    """
    # Four times as fast as to ask the model for each; `.value` of an int enum is slow likewise.
    columns = job.__dict__.copy()
    columns["preset"], columns["preset_concat"] = job.preset.value
    columns["job_type"] = job.job_type._value_
    columns["ready"] = job.ready._value_
    columns["config"] = None if job.config is None else encode_config(job.config)
    columns["tags"] = encode_tags(job.tags) if job.tags else None
    return columns


job_row = cast("Callable[[Mapping[str, Any]], tuple[Any, ...]]", itemgetter(*JOB_COLUMNS))
"""What `encode_job` made, as the values of `JOB_COLUMNS`."""
