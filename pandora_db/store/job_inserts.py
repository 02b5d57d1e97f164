"""Putting jobs in: one, one within a limit, or very many."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from pandora_db.codecs.checks import check_int
from pandora_db.codecs.job import encode_job
from pandora_db.drivers.base import Session, Unit
from pandora_db.errors import Duplicate, InvalidInput, OutcomeUnknown, QueueFull, WriteRefused
from pandora_db.models.job import Job
from pandora_db.models.limits import MAX_ID
from pandora_db.store.job_bulk import (
    AT_ONCE,
    LEAP,
    GeneratedIdTaken,
    check_jobs,
    load_jobs,
    step_over,
)
from pandora_db.store.operation import operation, operation_run
from pandora_db.store.repository import Repository

_TRIES = 4


class JobInserts(Repository):
    """Part of `Store`."""

    async def insert_job(
        self, job: Job, *, max_active: int | None = None, operation_id: UUID | None = None
    ) -> int:
        """Store a job and return its id (seed: libpndb).

        Args:
            job: what to store. Without `job_id` one is generated; ids ascend and stay below 2^53.
                With an `idempotency_key` that is stored already, nothing is inserted and the id of
                that first job is returned.
            max_active: refuse when that many jobs are active (not archived) already; checked and
                inserted as one, so that no two callers take the last place.
            operation_id: repeats an earlier call; the first call's job is returned if there is one.

        Raises:
            Duplicate: `job_id` or `external_id` is taken.
            QueueFull: `max_active` jobs are active.
            InvalidInput: no `Job`, or a value that was smuggled past its checks.
            SchemaMissing: the job's pipeline was defined after `init_schema`: call it again.
        """
        call = operation(operation_id)
        args = _insert_args(job, call.id)
        if args["job_type"] not in self._leases.pipelines:
            await self._check_pipeline(args["job_type"])
        if max_active is not None:
            limit = check_int(max_active, "max_active", 1, MAX_ID)
            return await self._insert_within(args, limit, repeated=call.repeated)
        row = await self._session.write("insert_job", args, operation_id, repeated=call.repeated)
        return row[0] if row else await _insert_again(self._session, args)

    async def _insert_within(self, args: dict[str, Any], limit: int, *, repeated: bool) -> int:
        async with _signed(args["operation_id"], "insert_job"), self._session.unit() as session:
            await session.read("lock_queue", {})
            ((active,),) = await session.read("count_active_up_to", {"limit": limit})
            if active >= limit:
                ((done, known, _, _),) = await session.read("find_insert", args)
                if (found := done if done is not None else known) is not None:
                    return int(found)
                raise QueueFull(limit)
            row = await session.write("insert_job", args, None, repeated=repeated)
            return row[0] if row else await _insert_again(session, args)

    async def insert_jobs(
        self, jobs: Iterable[Job], *, operation_id: UUID | None = None
    ) -> list[int]:
        """Store up to 1,000,000 jobs, all or none, and return their ids in order.

        PostgreSQL takes them by COPY. Where a job has an `idempotency_key` or `external_id`, and
        where an `operation_id` is given, they are stored by statements of 500 in the same
        transaction: a COPY cannot answer for what is there already.

        Args:
            jobs: what to store; each as in `insert_job`.
            operation_id: repeats an earlier call of the same jobs in the same order; those that it
                stored are answered with their ids.

        Raises:
            Duplicate: a `job_id` or `external_id` is taken or given twice; nothing was stored.
            InvalidInput: something else than a `Job`, or too many.
            SchemaMissing: as in `insert_job`.
        """
        listed, job_types = await check_jobs(jobs)
        if not listed:
            return []
        for job_type in job_types - self._leases.pipelines:
            await self._check_pipeline(job_type)
        operations = operation_run(operation_id)
        keyed = any(job.idempotency_key or job.external_id for job in listed)
        repeated = operation_id is not None
        for tries_left in reversed(range(_TRIES)):
            try:
                async with (
                    _signed(operations.first, "insert_jobs"),
                    self._session.unit() as session,
                ):
                    if keyed or repeated:
                        each = operations.ids(len(listed))
                        return await _insert_each(session, listed, each, repeated=repeated)
                    return await load_jobs(session, listed, operations)
            except GeneratedIdTaken as taken:  # the next ones are beyond it
                if not tries_left:
                    raise taken.duplicate from taken.duplicate.__cause__
        raise AssertionError("unreachable")

    async def get_next_job_id(self) -> int:
        """Reserve an id: no number is given out twice, nor generated for another job."""
        return await _free_id(self._session)


@asynccontextmanager
async def _signed(operation_id: str, what: str) -> AsyncGenerator[None, None]:
    """Name the operation by which a unit of unknown outcome can be repeated."""
    try:
        yield
    except OutcomeUnknown as error:
        raise OutcomeUnknown(UUID(operation_id), what) from error.__cause__


def _insert_args(job: object, operation_id: str) -> dict[str, Any]:
    if not isinstance(job, Job):
        raise InvalidInput(f"insert_job takes a Job, not {type(job).__name__}", field="job")
    args = encode_job(job)
    args["operation_id"] = operation_id
    return args


async def _insert_again(session: Session, args: dict[str, Any]) -> int:
    """Nothing was stored: find out why, and give another id where a generated one was taken."""
    generated = args["job_id"] is None
    for _ in range(_TRIES):
        ((done, known, id_taken, external_taken),) = await session.find_outcome("find_insert", args)
        if done is not None or known is not None:
            return int(known if done is None else done)
        if external_taken:
            raise Duplicate("external_id", args["external_id"])
        if id_taken and not generated:
            raise Duplicate("job_id", args["job_id"])
        if generated:
            args = {**args, "job_id": await _free_id(session)}
        key = UUID(args["operation_id"])
        row = await session.write("insert_job", args, key, repeated=True)
        if row is not None:
            return int(row[0])
    raise WriteRefused("the job was not stored")


async def _free_id(session: Session) -> int:
    """Give out an id that no job has, stepping over those that do in growing leaps, never back."""
    leap = 1
    while True:
        candidate = await step_over(session, leap)
        if not await session.read("find_taken_ids", {"job_ids": [candidate]}):
            return candidate
        leap = min(leap * 2, LEAP)


async def _insert_each(
    session: Unit, jobs: Sequence[Job], operations: Sequence[str], *, repeated: bool
) -> list[int]:
    ids: list[int] = []
    for start in range(0, len(jobs), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        chunk = list(map(_insert_args, jobs[part], operations[part]))
        rows = await session.write_all("insert_job", chunk, repeated=repeated)
        for args, row in zip(chunk, rows, strict=True):
            ids.append(row[0] if row else await _insert_again(session, args))
    return ids
