"""Every public call of a handle, each on a job of its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pandora_db import Job, Preset, Stage

if TYPE_CHECKING:
    from pandora_db import JobDb, Store


@dataclass(frozen=True, slots=True)
class Call:
    """`prepare` makes what the call needs and answers a job id; `run` is the call itself.

    `run(store, author, job_id)`; a mutating call takes `operation_id` too.
    """

    name: str
    run: Callable[..., Awaitable[Any]]
    stage: Stage | None = Stage.QUEUED
    mutates: bool = True
    family: bool = False

    async def prepare(self, db: JobDb, author: str) -> int:
        """Store the job that the call works on; 0 when it needs none."""
        if self.stage is None:
            return 0
        job_id = await db.insert_job(make_job(author))
        if self.stage is not Stage.QUEUED:
            await db.update_stage(job_id, self.stage)
        if self.family:
            await db.insert_child(job_id, make_job(author), key="k")
        return job_id


def make_job(author: str, **fields: Any) -> Job:
    return Job(author=author, link="http://host/clip.mkv", preset=Preset.STANDARD, **fields)


async def _consume(store: Store, author: str) -> int:
    return len([job async for job in store.iter_jobs(author=author, page_size=1)])


WRITES = (
    Call("insert_job", lambda s, a, _, **k: s.insert_job(make_job(a), **k), None),
    Call(
        "insert_job known key",
        lambda s, a, _, **k: s.insert_job(make_job(a, idempotency_key=a), **k),
        None,
    ),
    Call(
        "insert_job max_active",
        lambda s, a, _, **k: s.insert_job(make_job(a), max_active=10**6, **k),
        None,
    ),
    Call("insert_jobs", lambda s, a, _, **k: s.insert_jobs([make_job(a)] * 3, **k), None),
    Call(
        "insert_jobs with keys",
        lambda s, a, _, **k: s.insert_jobs(
            [make_job(a, idempotency_key=f"{a}/{n}") for n in range(3)], **k
        ),
        None,
    ),
    Call("update_stage", lambda s, _, i, **k: s.update_stage(i, Stage.DOWNLOADED, **k)),
    Call("archive_job", lambda s, _, i, **k: s.archive_job(i, **k)),
    Call("update_job", lambda s, _, i, **k: s.update_job(i, priority=5, error="late", **k)),
    Call("retry_job", lambda s, _, i, **k: s.retry_job(i, **k), Stage.FAILED),
    Call("requeue_job", lambda s, _, i, **k: s.requeue_job(i, **k), Stage.ENCODING),
    Call("cancel_job", lambda s, _, i, **k: s.cancel_job(i, **k)),
    Call("cancel_job of a worker's", lambda s, _, i, **k: s.cancel_job(i, **k), Stage.ENCODING),
    Call("decline_job", lambda s, _, i, **k: s.decline_job(i, reason="no", **k)),
    Call("delete_job", lambda s, _, i, **k: s.delete_job(i, **k)),
    Call("get_next_job_id", lambda s, _, __: s.get_next_job_id(), None, mutates=False),
)
READS = tuple(
    Call(name, run, mutates=False)
    for name, run in {
        "get_job": lambda s, _, i: s.get_job(i),
        "get_jobs_by_ids": lambda s, _, i: s.get_jobs_by_ids([i]),
        "get_jobs_by_stage": lambda s, _, __: s.get_jobs_by_stage(Stage.UPLOADING),
        "get_active_jobs": lambda s, _, __: s.get_active_jobs(),
        "get_queue_length": lambda s, _, __: s.get_queue_length(),
        "get_user_history": lambda s, a, _: s.get_user_history(a),
        "get_completed_jobs": lambda s, _, __: s.get_completed_jobs(limit=5),
        "get_recent_jobs": lambda s, _, __: s.get_recent_jobs(limit=5),
        "get_jobs": lambda s, a, _: s.get_jobs(author=a, stage=Stage.QUEUED),
        "count_jobs": lambda s, a, _: s.count_jobs(author=a),
        "iter_jobs": lambda s, a, _: _consume(s, a),
        "queue_position": lambda s, _, i: s.queue_position(i),
        "stage_counts": lambda s, _, __: s.stage_counts(),
        "history": lambda s, _, i: s.history(i),
        "name_counts": lambda s, _, __: s.name_counts(Stage.QUEUED),
        "get_children": lambda s, _, i: s.get_children(i),
        "get_parent": lambda s, _, i: s.get_parent(i),
        "logs": lambda s, _, i: s.logs(i),
    }.items()
)


async def _transaction(db: Any, author: str, job_id: int) -> None:
    async with db.transaction() as tx:
        await tx.insert_job(make_job(author))
        await tx.update_stage(job_id, Stage.DOWNLOADED)
        await tx.get_job(job_id)
        await tx.insert_jobs([make_job(author)] * 2)


async def _failing_transaction(db: Any, author: str, job_id: int) -> None:
    with suppress(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.insert_jobs([make_job(author)] * 2)
            await tx.archive_job(job_id // 0)


DOOR = (
    Call("ping", lambda db, _, __: db.ping(), None, mutates=False),  # type: ignore[attr-defined]
    Call("health", lambda db, _, __: db.health(), None, mutates=False),  # type: ignore[attr-defined]
    Call("health deep", lambda db, _, __: db.health(deep=True), None, mutates=False),  # type: ignore[attr-defined]
    Call("verify_schema", lambda db, _, __: db.verify_schema(), None, mutates=False),  # type: ignore[attr-defined]
    Call("plan_schema", lambda db, _, __: db.plan_schema(), None, mutates=False),  # type: ignore[attr-defined]
    Call("init_schema again", lambda db, _, __: db.init_schema(), None, mutates=False),  # type: ignore[attr-defined]
    Call("transaction", _transaction),
    Call("insert_child", lambda db, a, i: db.insert_child(i, make_job(a), key="k")),
    Call("cancel_job of a family", lambda db, _, i: db.cancel_job(i), family=True),
    Call("transaction rolled back", _failing_transaction, mutates=False),
)
EVERY = (*WRITES, *READS, *DOOR)
