"""Changing what may change."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, TypedDict, Unpack
from uuid import UUID

from pandora_db.codecs.checks import (
    check_id,
    check_int,
    check_path,
    check_priority,
    check_progress,
    check_text,
    clean_error,
)
from pandora_db.codecs.json_text import Json, encode_config, encode_json, encode_tags
from pandora_db.errors import InvalidInput, NotFound
from pandora_db.models.checks import check_moment, check_tags
from pandora_db.models.claim import Claim
from pandora_db.models.event import EventKind
from pandora_db.models.limits import MAX_ATTEMPTS, MAX_KEY, MAX_PATH, MAX_STEP
from pandora_db.store.held_claim import HeldClaim
from pandora_db.store.job_states import JobState, JobStates
from pandora_db.store.operation import operation
from pandora_db.store.refusals import deleted, refused


class JobChanges(TypedDict, total=False):
    """The free columns that `update_job` takes; None clears one."""

    author_id: int | None
    guild_id: int | None
    message_id: int
    channel_id: int
    priority: int
    directory: str | os.PathLike[str]
    progress: float | None
    progress_data: Json
    current_step: str | None
    output_kind: str | None
    output: Json
    output_file: str | None
    error: str | BaseException | None
    config: Mapping[str, Json] | None
    tags: Iterable[str]
    concurrency_key: str | None
    not_before: float | datetime | None
    max_attempts: int | None


class JobUpdates(JobStates):
    """Part of `Store`."""

    async def update_job(
        self,
        job_id: int | Claim,
        *,
        operation_id: UUID | None = None,
        **changes: Unpack[JobChanges],
    ) -> None:
        """Set free columns of a job; what is not named stays, None clears.

        `progress` is 0 … 1; `progress_data` and `output` are JSON values, `config` is a dict of
        them; `error` is text or an exception, cut at 16,384 characters. A change is an event of the
        job, except of `progress`, `progress_data` and `current_step` alone.

        Given a claim, the write counts only as long as the claim does.

        Raises:
            NotFound: there is no such job.
            LeaseLost: the claim no longer counts; nothing was written.
            InvalidInput: no column was named, an unknown one, or a value that is refused.
        """
        call = operation(operation_id)
        claim = job_id if isinstance(job_id, HeldClaim) else None
        if claim is not None:
            self._leases.check(claim)
        args = {
            "job_id": check_id(job_id.job_id if isinstance(job_id, HeldClaim) else job_id),
            "token": claim and claim.token,
            "owner": claim and claim.owner,
            "operation_id": call.id,
            **_change_args(dict(changes)),
        }

        def settled(state: JobState) -> bool:
            if claim is not None and state.token != claim.token:
                raise refused(claim, state)
            return False

        with self._leases.noting_loss(claim):
            try:
                await self._write("update_job", args, call, EventKind.UPDATED, settled)
            except NotFound:
                if claim is None:
                    raise
                raise deleted(claim) from None


def _encode_tags(value: object, field: str) -> str | None:
    tags = check_tags(value, field)
    return encode_tags(tags) if tags else None


# In the order of the bits of `fields`, which both dialects' update_job test.
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "author_id": check_id,
    "guild_id": check_id,
    "message_id": check_id,
    "channel_id": check_id,
    "priority": check_priority,
    "directory": check_path,
    "progress": check_progress,
    "progress_data": encode_json,
    "current_step": lambda value, field: check_text(value, field, MAX_STEP),
    "output_kind": lambda value, field: check_text(value, field, MAX_STEP),
    "output": encode_json,
    "output_file": lambda value, field: check_text(value, field, MAX_PATH),
    "error": clean_error,
    "config": encode_config,
    "tags": _encode_tags,
    "concurrency_key": lambda value, field: check_text(value, field, MAX_KEY, least=1),
    "not_before": check_moment,
    "max_attempts": lambda value, field: check_int(value, field, 1, MAX_ATTEMPTS),
}
_NEVER_NULL = frozenset({"message_id", "channel_id", "priority", "directory", "tags"})
_PROGRESS = frozenset({"progress", "progress_data", "current_step"})


def _change_args(changes: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted(changes.keys() - _CHECKS.keys()):
        raise InvalidInput(
            f"update_job does not set {', '.join(unknown)}; it sets {', '.join(_CHECKS)}",
            field=unknown[0],
        )
    if not changes:
        raise InvalidInput(f"update_job was given nothing to set; it sets {', '.join(_CHECKS)}")
    fields = 0
    args: dict[str, Any] = {}
    for bit, (name, check) in enumerate(_CHECKS.items()):
        value = changes.get(name)
        if name in changes:
            fields |= 1 << bit
            if value is None and name in _NEVER_NULL:
                raise InvalidInput(f"{name} cannot be cleared; give a value", field=name)
        args[name] = None if value is None else check(value, name)
    recorded = changes.keys() - _PROGRESS
    args["fields"] = fields
    args["event"] = 1 if recorded else 0
    args["detail"] = ", ".join(sorted(recorded)) or None
    return args
