"""Finding jobs again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypedDict, Unpack

from pandora_db.codecs.checks import (
    check_author,
    check_bool,
    check_id,
    check_ids,
    check_int,
    check_limit,
    check_offset,
    check_time,
)
from pandora_db.codecs.job_type import check_job_type
from pandora_db.codecs.stage import check_stage
from pandora_db.errors import InvalidInput, NotFound
from pandora_db.models.job_row import JobRow, row_of
from pandora_db.models.job_type import JobType
from pandora_db.models.stage import MEMBERS, STAGES, StageCode, StageKind
from pandora_db.models.status import Hold, JobStatus, status_of
from pandora_db.store.repository import Repository


class JobFilters(TypedDict, total=False):
    """What `get_jobs`, `count_jobs` and `iter_jobs` select by; all that are given must hold.

    `since` is included, `until` is not; both are Unix seconds or aware datetimes and mean
    `requested_at`. `archived` is True for the archive, of which the first page costs a look at each
    job that is active and was requested later; False for the active jobs, among which those of an
    author or a guild are then looked for: without it `stage` and `status` look through the archive
    too, which costs more the longer it is. On PostgreSQL a page of the active jobs costs a look at
    each stage and priority that they have: with one for each of 60,000 jobs, half a second.
    """

    stage: StageCode | int | None
    status: JobStatus | str | None
    author: str | None
    author_id: int | None
    guild_id: int | None
    job_type: JobType | int | None
    since: datetime | int | None
    until: datetime | int | None
    archived: bool | None


class _Queries(NamedTuple):
    """What `get_jobs` and `count_jobs` run: tests/dialect/test_plans.py looks at their plans."""

    rows: str
    total: str


_LIVE = _Queries("get_live_jobs", "count_live_jobs")
_ANY = _Queries("get_jobs", "count_jobs")


class JobQueries(Repository):
    """Part of `Store`."""

    async def get_job(self, job_id: int) -> JobRow | None:
        """The job, active or archived; None when there is none (seed: libpndb)."""
        rows = await self._session.read("get_job", {"job_id": check_id(job_id)})
        return row_of(rows[0]) if rows else None

    async def get_jobs_by_ids(self, job_ids: Iterable[int]) -> list[JobRow]:
        """The jobs in the order asked for, at most 1,000,000; ids that are not there are left out.

        Raises:
            InvalidInput: too many ids, or one outside 0 … 2^63-1.
        """
        ids = check_ids(job_ids)
        if not ids:
            return []
        found = {job.job_id: job for job in await self._jobs("get_jobs_by_ids", {"job_ids": ids})}
        return [found[job_id] for job_id in ids if job_id in found]

    async def get_jobs_by_stage(self, stage: StageCode | int) -> list[JobRow]:
        """The active jobs at a stage, oldest request first (seed: libpndb).

        Raises:
            UnknownCode: no stage has that number.
        """
        return await self._jobs("get_jobs_by_stage", {"stage": check_stage(stage).value})

    async def get_active_jobs(self) -> list[JobRow]:
        """The jobs that are not archived, oldest request first (seed: libpndb)."""
        return await self._jobs("get_active_jobs", {})

    async def get_queue_length(self) -> int:
        """How many jobs are not archived (seed: libpndb)."""
        ((length,),) = await self._session.read("get_queue_length", {})
        return int(length)

    async def get_user_history(self, author: str | int, limit: int = 10) -> list[JobRow]:
        """A user's jobs, active and archived, newest request first (seed: libpndb).

        Args:
            author: the name, or the user's id (`author_id`) as an int.
            limit: at most so many, 1 … 100,000.
        """
        args: dict[str, Any] = {"limit": check_limit(limit)}
        if isinstance(author, int):
            args["author_id"] = check_id(author, "author")
            return await self._jobs("get_user_history", args, frozenset({"by_id"}))
        args["author"] = check_author(author)
        return await self._jobs("get_user_history", args, frozenset({"by_name"}))

    async def get_completed_jobs(self, limit: int = 50) -> list[JobRow]:
        """The archived jobs, the last completed first (seed: libpndb); `limit` is 1 … 100,000."""
        return await self._jobs("get_completed_jobs", {"limit": check_limit(limit)})

    async def get_recent_jobs(self, limit: int = 50) -> list[JobRow]:
        """The jobs requested last, active and archived, newest first; `limit` is 1 … 100,000."""
        return await self.get_jobs(limit=limit)

    async def get_jobs(
        self,
        *,
        limit: int = 100,
        offset: int = 0,
        after: JobRow | tuple[int | None, int] | None = None,
        **filters: Unpack[JobFilters],
    ) -> list[JobRow]:
        """The jobs that the filters select, newest request first.

        Args:
            limit: at most so many, 1 … 100,000.
            offset: leave out so many; each costs as much as one that is returned.
            after: go on after this job of the page before, or after its `key`: costs nothing, and
                no job is missed or seen twice when others arrive meanwhile (keyset).
            filters: see `JobFilters`.

        Raises:
            InvalidInput: a filter of the wrong type, an unknown one, or a limit out of range.
        """
        queries, args, when = _select(dict(filters))
        args |= {"limit": check_limit(limit), "offset": check_offset(offset)}
        if after is not None:
            place, flag = _after(after)
            args |= place
            when |= {flag}
        return await self._jobs(queries.rows, args, when)

    async def count_jobs(self, **filters: Unpack[JobFilters]) -> int:
        """How many jobs the filters select; costs as much as looking at each of them."""
        queries, args, when = _select(dict(filters))
        ((count,),) = await self._session.read(queries.total, args, when)
        return int(count)

    async def iter_jobs(
        self, *, page_size: int = 1000, **filters: Unpack[JobFilters]
    ) -> AsyncIterator[JobRow]:
        """Every job that the filters select, newest request first, in pages of `page_size`.

        No transaction and no connection is held between pages: jobs that arrive meanwhile are not
        seen, jobs that change are seen as they are when their page is read.

        Raises:
            InvalidInput: as `get_jobs`, or `page_size` is not 1 … 100,000.
        """
        check_limit(page_size, "page_size")
        _select(dict(filters))  # `limit`, `offset` and `after` are no filters: refused by name
        after: JobRow | None = None
        while True:
            page = await self.get_jobs(limit=page_size, after=after, **filters)
            for job in page:
                yield job
            if len(page) < page_size:
                return
            after = page[-1]

    async def queue_position(self, job_id: int) -> int | None:
        """Where a waiting job stands at its stage: 1 is next; None when it does not wait.

        Jobs that are paused, or wait for their time, are not counted before it: nobody gets them.

        Raises:
            NotFound: there is no such job.
        """
        rows = await self._session.read("queue_position", {"job_id": check_id(job_id)})
        if not rows:
            raise NotFound(job_id)
        ready, archived, ahead = rows[0]
        info = STAGES.get(ready)
        waits = info is not None and info.kind is StageKind.WAITING and not archived
        return int(ahead) + 1 if waits else None

    async def name_counts(self, stage: StageCode | int) -> dict[str | None, int]:
        """How many active jobs there are at a stage, by name."""
        args = {"stage": check_stage(stage).value}
        rows = await self._session.read("name_counts", args)
        return {name: int(count) for name, count in rows}

    async def stage_counts(self) -> dict[int, int]:
        """How many active jobs are at each stage; keys are members where the code is known."""
        rows = await self._session.read("stage_counts", {})
        known: Mapping[int, int] = MEMBERS
        return {known.get(code, int(code)): int(count) for code, count in rows}


def _after(after: Any) -> tuple[dict[str, int], str]:  # noqa: ANN401 - judged here
    try:
        requested_at, job_id = after.key if isinstance(after, JobRow) else after
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            "after takes a JobRow, or its key: a tuple of requested_at and job_id", field="after"
        ) from error
    # A libpndb row may have a negative id or time, or no time: what the column holds will do.
    place = {"after_job_id": check_int(job_id, "after", -(2**63), 2**63 - 1)}
    if requested_at is None:
        return place, "after_null"
    place["after_requested_at"] = check_int(requested_at, "after", -(2**63), 2**63 - 1)
    return place, "after"


def _select(filters: dict[str, Any]) -> tuple[_Queries, dict[str, Any], frozenset[str]]:
    """The queries that the filters ask for, and their arguments and optional lines."""
    queries = _ANY
    args: dict[str, Any] = {}
    when: set[str] = set()
    for name, value in filters.items():
        if name not in JobFilters.__annotations__:
            known = ", ".join(JobFilters.__annotations__)
            raise InvalidInput(f"there is no filter {name}; there are {known}", field=name)
        if value is None:
            continue
        if name == "status":
            args["stages"], flags = _status(value)
            when |= flags
        elif name == "archived" and not check_bool(value, name):
            queries = _LIVE  # however many jobs an author has in the archive
        elif name == "archived":
            when.add(name)
        else:
            args[name] = _COLUMNS[name](value, name)
            when.add(name)
    return queries, args, frozenset(when)


def _status(value: object) -> tuple[list[int], set[str]]:
    try:
        status = JobStatus(value)  # type: ignore[arg-type]
    except ValueError as error:
        raise InvalidInput(
            f"status is {value!r}; expected one of {', '.join(JobStatus)}", field="status"
        ) from error
    hold = Hold.PAUSE if status is JobStatus.PAUSED else Hold.NONE
    codes = [code for code in STAGES if status_of(code, hold) is status]
    flags = {"stages"}
    if status is JobStatus.PAUSED:
        flags.add("paused")
    elif status is JobStatus.QUEUED:
        flags.add("not_paused")
    return codes, flags


# The filters that compare one column with one value.
_COLUMNS: dict[str, Callable[[Any, str], Any]] = {
    "stage": lambda value, field: check_stage(value, field).value,
    "author": check_author,
    "author_id": check_id,
    "guild_id": check_id,
    "job_type": lambda value, field: check_job_type(value, field).value,
    "since": check_time,
    "until": check_time,
}
