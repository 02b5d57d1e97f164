"""Very many jobs at once: what `insert_jobs` does inside its transaction."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

from pandora_db.codecs.job import JOB_COLUMNS, encode_job, job_row
from pandora_db.codecs.json_text import encode_config
from pandora_db.drivers.base import Row, Session, Unit
from pandora_db.errors import Duplicate, InvalidInput, PandoraDbError, WriteRefused
from pandora_db.models.checks import refuse
from pandora_db.models.job import Job
from pandora_db.models.limits import MAX_BULK
from pandora_db.store.operation import OperationRun

AT_ONCE = 500
LOADED = (*JOB_COLUMNS, "created_at", "updated_at")
LEAP = 65_536
"""Ids that are stepped over at most at once, where a run of them is taken."""


class GeneratedIdTaken(Exception):
    """Another transaction, open until now, had given a job the id that was generated here."""

    def __init__(self, duplicate: Duplicate) -> None:
        super().__init__(str(duplicate))
        self.duplicate = duplicate


async def check_jobs(given: object) -> tuple[list[Job], set[int]]:
    """The jobs and their types, with all refused that can be refused before any SQL."""
    if isinstance(given, Job):  # which is iterable
        refuse("jobs", given, "several Jobs; insert_job() takes one")
    if not isinstance(given, Iterable):
        raise InvalidInput(f"insert_jobs takes jobs, not {type(given).__name__}", field="jobs")
    jobs: list[Job] = []
    job_types: set[int] = set()
    job: object
    for job in cast("Iterable[object]", given):
        if not isinstance(job, Job):
            kind = type(job).__name__
            raise InvalidInput(f"jobs[{len(jobs)}] is {kind}, not a Job", field="jobs")
        if job.config is not None:
            encode_config(job.config)
        jobs.append(job)
        job_types.add(job.job_type)
        if len(jobs) > MAX_BULK:
            raise InvalidInput(f"these are more than {MAX_BULK} jobs at once", field="jobs")
        if len(jobs) % AT_ONCE == 0:
            await asyncio.sleep(0)
    given_ids = Counter(job.job_id for job in jobs if job.job_id is not None)
    if given_ids and (twice := given_ids.most_common(1)[0])[1] > 1:
        raise Duplicate("job_id", twice[0])
    return jobs, job_types


async def load_jobs(session: Unit, jobs: Sequence[Job], operations: OperationRun) -> list[int]:
    """Store jobs without keys, encoding each while the engine takes those before it."""
    given = [job.job_id for job in jobs if job.job_id is not None]
    if given:
        taken = await session.read("find_taken_ids", {"job_ids": given})
        if taken:
            raise Duplicate("job_id", taken[0][0])
    fresh = iter(await _reserve(session, len(jobs) - len(given), frozenset(given)))
    ids = [next(fresh) if job.job_id is None else job.job_id for job in jobs]
    (stamp,) = await session.read("stamp", {})
    try:
        stored = await session.load("jobs", LOADED, load_rows(jobs, ids, stamp))
    except Duplicate as error:
        if error.field == "job_id" and str(error.value) not in map(str, given):
            raise GeneratedIdTaken(error) from error
        raise
    except PandoraDbError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"a job holds what no column takes ({error}); was it made by model_construct()?",
            field="jobs",
        ) from error
    args: dict[str, Any] = {"head": operations.head, "tail": operations.tail}
    if ids == list(range(ids[0], ids[0] + len(ids))):
        args |= {"first": ids[0], "last": ids[-1]}
        ((recorded,),) = await session.read("record_loaded_between", args)
    else:
        ((recorded,),) = await session.read("record_loaded", args | {"job_ids": ids})
    if stored != len(jobs) or recorded != len(jobs):
        raise WriteRefused(f"of {len(jobs)} jobs {recorded} were stored as they were given")
    return ids


def load_rows(jobs: Sequence[Job], ids: Sequence[int], stamp: Row) -> Iterator[Row]:
    """The values of `LOADED`; `stamp` is what the query of that name answers."""
    now, created_at, updated_at = stamp
    for job, job_id in zip(jobs, ids, strict=True):
        _, author, requested_at, *others = job_row(encode_job(job))
        requested_at = now if requested_at is None else requested_at
        yield (job_id, author, requested_at, *others, created_at, updated_at)


async def _reserve(session: Session, count: int, given: frozenset[int]) -> Sequence[int]:
    """`count` ids that are neither stored nor among those given."""
    if count == 0:
        return ()
    fresh: list[int] = []
    leap = 1
    for _ in range(64):
        args = {"count": count - len(fresh)}
        ((first, last, scattered),) = await session.read("reserve_job_ids", args)
        reserved = range(first, last + 1) if scattered is None else scattered
        rows = await session.read("find_taken_between", {"first": first, "last": last})
        taken = given.union(job_id for (job_id,) in rows)
        if not fresh and taken.isdisjoint(reserved):
            return reserved
        free = [job_id for job_id in reserved if job_id not in taken]
        fresh += free
        if len(fresh) == count:
            return fresh
        if not free:
            await step_over(session, leap)
            leap = min(leap * 2, LEAP)
    raise PandoraDbError("no free ids were found: the stored ids leave no room below 2^53")


async def step_over(session: Session, count: int) -> int:
    """Give `count` ids out at once; the last of them."""
    row: Any = await session.write("get_next_job_id", {"count": count}, None)
    if row is None:
        raise PandoraDbError("the counter of ids is missing: its row in job_ids was deleted")
    return int(row[0])
