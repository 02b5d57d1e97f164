"""What is stored of a registered job when it is dispatched."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from pydantic_core import to_jsonable_python

from pandora_db.codecs.checks import check_int
from pandora_db.codecs.claim import check_seconds
from pandora_db.models.job import Job
from pandora_db.models.job_type import JobType
from pandora_db.models.limits import MAX_ATTEMPTS
from pandora_db.models.stage import TaskStage

if TYPE_CHECKING:
    from pydantic import BaseModel

    from pandora_db.runtime.definition import JobDefinition

_DIGEST = 32  # hex digits


def make_job(
    definition: JobDefinition,
    job: BaseModel,
    *,
    delay: float,
    max_attempts: int | None,
    **fields: Any,  # noqa: ANN401 - those of Job
) -> Job:
    """The row of a job: one that is not resumable is tried once."""
    wait = check_seconds(delay, "delay")
    if max_attempts is not None:
        check_int(max_attempts, "max_attempts", 1, MAX_ATTEMPTS)
    return Job(
        job_type=JobType.TASK,
        ready=TaskStage.QUEUED,
        name=definition.name,
        params=definition.pack(job),
        not_before=time.time() + wait if wait else None,
        max_attempts=max_attempts if definition.resumable else 1,
        **fields,
    )


def child_key(definition: JobDefinition, job: BaseModel) -> str:
    """The same for equal jobs, in any process: a set has another order in each."""
    text = json.dumps(_canonical(job.model_dump()), ensure_ascii=False, sort_keys=True)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{definition.name[:200]}:{digest}"


def _canonical(value: object) -> object:
    if isinstance(value, Mapping):
        pairs = cast("Mapping[object, object]", value).items()
        return sorted(([_text(key), _canonical(item)] for key, item in pairs), key=_text)
    if isinstance(value, set | frozenset):
        return sorted(map(_canonical, cast("set[object]", value)), key=_text)
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in cast("list[object]", value)]
    return to_jsonable_python(value, fallback=repr, bytes_mode="hex", inf_nan_mode="strings")


def _text(value: object) -> str:
    return json.dumps(_canonical(value) if not isinstance(value, list) else value, sort_keys=True)
