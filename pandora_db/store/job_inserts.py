"""Putting jobs in: one, one within a limit, or very many."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from pandora_db.codecs.checks import check_int
from pandora_db.codecs.job import JobColumns, encode_job
from pandora_db.drivers.base import Session, Unit
from pandora_db.errors import Duplicate, InvalidInput, PandoraDbError, QueueFull
from pandora_db.models.job import Job
from pandora_db.models.limits import MAX_BULK, MAX_ID
from pandora_db.store.operation import operation, operation_run
from pandora_db.store.repository import Repository

_AT_ONCE = 500
_LOADED = (*JobColumns._fields, "operation_id", "created_at", "updated_at")


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
        """
        args = _insert_args(job, operation(operation_id).id)
        if max_active is not None:
            return await self._insert_within(args, check_int(max_active, "max_active", 1, MAX_ID))
        row = await self._session.write("insert_job", args, operation_id)
        return row[0] if row else await _insert_again(self._session, args)

    async def _insert_within(self, args: dict[str, Any], limit: int) -> int:
        async with self._session.unit() as session:
            await session.read("lock_queue", {})
            ((active,),) = await session.read("count_active_up_to", {"limit": limit})
            if active >= limit:
                ((done, known, _, _),) = await session.read("find_insert", args)
                if (found := done if done is not None else known) is not None:
                    return int(found)
                raise QueueFull(limit)
            row = await session.write("insert_job", args, None)
            return row[0] if row else await _insert_again(session, args)

    async def insert_jobs(
        self, jobs: Iterable[Job], *, operation_id: UUID | None = None
    ) -> list[int]:
        """Store up to 1,000,000 jobs, all or none, and return their ids in order.

        PostgreSQL takes them by COPY. Jobs with an `idempotency_key` or `external_id` are stored
        by statements of 500 in the same transaction: a COPY cannot answer for a known key.

        Raises:
            Duplicate: a `job_id` or `external_id` is taken or given twice; nothing was stored.
            InvalidInput: something else than a `Job`, or too many.
        """
        encoded = await _encode_all(jobs)
        if not encoded:
            return []
        operations = operation_run(operation_id, len(encoded))
        keyed = any(columns.idempotency_key or columns.external_id for columns in encoded)
        async with self._session.unit() as session:
            if keyed or operation_id is not None:
                return await _insert_each(session, encoded, operations)
            return await _load(session, encoded, operations)

    async def get_next_job_id(self) -> int:
        """Reserve an id: no number is given out twice, nor generated for another job."""
        leap = 1
        while True:
            candidate = await _step(self._session, leap)
            if not await self._session.read("find_taken_ids", {"job_ids": [candidate]}):
                return candidate
            leap = min(leap * 2, 65_536)


def _insert_args(job: object, operation_id: str) -> dict[str, Any]:
    if not isinstance(job, Job):
        raise InvalidInput(f"insert_job takes a Job, not {type(job).__name__}", field="job")
    return {**encode_job(job)._asdict(), "operation_id": operation_id}


async def _encode_all(jobs: Iterable[object]) -> list[JobColumns]:
    encoded: list[JobColumns] = []
    for index, job in enumerate(jobs):
        if not isinstance(job, Job):
            raise InvalidInput(f"jobs[{index}] is {type(job).__name__}, not a Job", field="jobs")
        encoded.append(encode_job(job))
        if index % _AT_ONCE == 0:
            await asyncio.sleep(0)
    if len(encoded) > MAX_BULK:
        raise InvalidInput(
            f"{len(encoded)} jobs are too many at once; expected at most {MAX_BULK}", field="jobs"
        )
    return encoded


async def _insert_again(session: Session, args: dict[str, Any]) -> int:
    """Nothing was stored: find out why, or step over ids that are taken and try again."""
    leap = 1
    while True:
        ((done, known, id_taken, external_taken),) = await session.read("find_insert", args)
        if done is not None or known is not None:
            return int(known if done is None else done)
        if id_taken:
            raise Duplicate("job_id", args["job_id"])
        if external_taken:
            raise Duplicate("external_id", args["external_id"])
        # A generated id met a job that somebody stored under that number. Perhaps a whole run of
        # them: step in growing leaps, never back.
        await _step(session, leap)
        leap = min(leap * 2, 65_536)
        row = await session.write("insert_job", args, None)
        if row is not None:
            return int(row[0])


async def _step(session: Session, count: int) -> int:
    """Give `count` ids out at once; the last of them."""
    row = await session.write("get_next_job_id", {"count": count}, None)
    if row is None:
        raise PandoraDbError("the counter of ids is missing: its row in job_ids was deleted")
    return int(row[0])


async def _insert_each(
    session: Unit, encoded: Sequence[JobColumns], operations: Sequence[str]
) -> list[int]:
    ids: list[int] = []
    for start in range(0, len(encoded), _AT_ONCE):
        chunk = [
            {**columns._asdict(), "operation_id": operation_id}
            for columns, operation_id in zip(
                encoded[start : start + _AT_ONCE], operations[start : start + _AT_ONCE], strict=True
            )
        ]
        rows = await session.write_all("insert_job", chunk)
        for args, row in zip(chunk, rows, strict=True):
            ids.append(row[0] if row else await _insert_again(session, args))
    return ids


async def _load(
    session: Unit, encoded: Sequence[JobColumns], operations: Sequence[str]
) -> list[int]:
    given = [columns.job_id for columns in encoded if columns.job_id is not None]
    if len(set(given)) < len(given):
        twice = next(job_id for job_id in given if given.count(job_id) > 1)
        raise Duplicate("job_id", twice)
    if given:
        taken = await session.read("find_taken_ids", {"job_ids": given})
        if taken:
            raise Duplicate("job_id", taken[0][0])
    fresh = iter(await _reserve(session, len(encoded) - len(given), set(given)))
    ((now, created_at, updated_at),) = await session.read("stamp", {})
    rows: list[tuple[Any, ...]] = []
    for columns, operation_id in zip(encoded, operations, strict=True):
        if len(rows) % _AT_ONCE == 0:
            await asyncio.sleep(0)
        job_id, author, requested_at, *others = columns
        job_id = next(fresh) if job_id is None else job_id
        requested_at = now if requested_at is None else requested_at
        rows.append((job_id, author, requested_at, *others, operation_id, created_at, updated_at))
    await session.load("jobs", _LOADED, rows)
    await session.read("record_loaded", {"first": operations[0], "last": operations[-1]})
    return [row[0] for row in rows]


async def _reserve(session: Session, count: int, given: set[int]) -> list[int]:
    """`count` ids that are neither stored nor among those given."""
    fresh: list[int] = []
    for _ in range(64):
        if len(fresh) == count:
            return fresh
        rows = await session.read("reserve_job_ids", {"count": count - len(fresh)})
        reserved = [job_id for (job_id,) in rows if job_id not in given]
        taken = {row[0] for row in await session.read("find_taken_ids", {"job_ids": reserved})}
        fresh += [job_id for job_id in reserved if job_id not in taken]
        if not fresh:
            await _step(session, 65_536)
    raise PandoraDbError("no free ids were found: the stored ids leave no room below 2^53")
