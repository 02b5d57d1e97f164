"""Jobs with sensible, unique contents, and jobs that stand at a given stage."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypedDict

from pandora_db.models import Job, Preset, StageCode, StageKind

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import Unpack

    from pandora_db.models import JobType
    from pandora_db.models.checks import Json
    from pandora_db.store import Store

# A plausible Discord id of 2024: too large for a float, as real ones are.
_FIRST_SNOWFLAKE = 1_200_000_000_000_000_001

_numbers = itertools.count(1)


class JobFields(TypedDict, total=False):
    """The fields of `Job`, each of them optional: what a factory may be told."""

    author: str
    link: str
    preset: Preset
    job_type: JobType | int
    job_id: int | None
    ready: StageCode | int
    message_id: int
    channel_id: int
    directory: str | os.PathLike[str]
    requested_at: int | datetime | None
    author_id: int | None
    guild_id: int | None
    external_id: str | None
    idempotency_key: str | None
    priority: int
    config: Mapping[str, Json] | None
    name: str | None
    tags: Iterable[str]
    concurrency_key: str | None
    not_before: float | datetime | None
    max_attempts: int | None
    params: bytes | None


def make_job(**overrides: Unpack[JobFields]) -> Job:
    """Make a job that differs from every other one of this process in author, link and message.

    Args:
        **overrides: fields of `Job` that matter to the test; the others are filled in.

    Raises:
        InvalidInput: a field is unknown or its value is refused, as by `Job` itself.
    """
    number = next(_numbers)
    defaults: JobFields = {
        "author": f"author-{number}",
        "link": f"https://videos.example/{number}.mkv",
        "message_id": _FIRST_SNOWFLAKE + number,
        "channel_id": _FIRST_SNOWFLAKE,
    }
    return Job.model_validate({**defaults, **overrides})


async def insert_job_at(
    store: Store, stage: StageCode, *, archived: bool | None = None, **overrides: Unpack[JobFields]
) -> int:
    """Insert a job and bring it to `stage` by the calls that a bot would make; its id.

    Args:
        store: an open handle, or the `tx` of its transaction.
        stage: where the job is to stand; of any pipeline.
        archived: whether it is archived too; None archives it if the stage is a finished one.
            A cancelled or declined job always is.
        **overrides: fields of `Job`, as for `make_job`.

    Raises:
        InvalidInput: a field is unknown or its value is refused.
        Duplicate: `job_id` or `external_id` is taken.
    """
    if "ready" not in overrides:
        overrides.setdefault("job_type", stage.info.pipeline)
    job = make_job(**overrides)
    job_id = await store.insert_job(job)
    if stage.kind is StageKind.CANCELLED and stage.name == "DECLINED":
        await store.decline_job(job_id, reason="not today")
    elif stage.kind is StageKind.CANCELLED:
        await store.cancel_job(job_id)
    elif stage is not job.ready:
        await store.update_stage(job_id, stage)
    if stage.kind is StageKind.FAILED:
        await store.update_job(job_id, error="ffmpeg exited with code 1")
    if stage.terminal if archived is None else archived:
        await store.archive_job(job_id)
    return job_id
