"""`JobManager`: dispatches registered jobs, works on them, and answers what became of them."""

from __future__ import annotations

import logging
import os
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack, cast

from pydantic import BaseModel

from pandora_db.codecs.checks import check_text
from pandora_db.errors import HandleClosed, PandoraDbError, SchemaError
from pandora_db.models.checks import check_tags, refuse
from pandora_db.models.claim import Backoff
from pandora_db.models.job_type import JobType
from pandora_db.models.limits import MAX_AUTHOR
from pandora_db.models.stage import TaskStage
from pandora_db.models.status import JobStatus
from pandora_db.runtime.crew import Crew, check_handle
from pandora_db.runtime.data_dirs import check_root
from pandora_db.runtime.definition import JobDefinition
from pandora_db.runtime.dispatching import make_job
from pandora_db.runtime.handle import JobHandle
from pandora_db.runtime.job_handler import JobHandler
from pandora_db.runtime.job_info import JobInfo
from pandora_db.runtime.registry import REGISTRY, Registry
from pandora_db.runtime.work import Terms, Work

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.models.job import Job

log = logging.getLogger("pandora_db")

_REGISTER_FIRST = (
    "a manager works on what its registry knows when it is made; "
    "import the modules that register jobs before JobManager(…)"
)


class DispatchOptions(TypedDict, total=False):
    """What `JobManager.make_job` takes beside the job."""

    priority: int
    delay: float
    author: str | None
    idempotency_key: str | None
    external_id: str | None
    max_attempts: int | None
    tags: tuple[str, ...]


class JobManager:
    """Registered jobs of one database: `async with JobManager(db) as jobs: ...`.

    Without the block it dispatches and answers, and works on nothing. Any number of managers, in
    any number of processes, share the work. What was interrupted goes on by itself: the job was
    given back, or its lease runs out. Jobs whose name this registry does not know are left waiting,
    and reported in the log when the manager starts.

    Args:
        db: an open handle.
        registry: the jobs that it knows; the default one otherwise. Those that are
            registered later are dispatched, and not worked on.
        concurrency: how many jobs at once in this process, 1 … 1,000.
        data_root: a folder in which each job may have one of its own, `ctx.data_dir`.
        keep_data: seconds after the end of a job when its folder is removed; None keeps it.
            Of jobs that were deleted too, and never of one that may go on.
        tags: what this process offers, such as "gpu".
        author: the author of jobs that are dispatched without one.
        retry_in: seconds, or a `Backoff`, before another attempt; None takes the default.
        checkpoint_every, progress_every: seconds between two writes of them.
        poll, grace, cancel_grace, shutdown_timeout: as in `Pipeline.running`.
    """

    def __init__(
        self,
        db: JobDb,
        registry: Registry = REGISTRY,
        *,
        concurrency: int = 4,
        data_root: str | os.PathLike[str] | None = None,
        keep_data: float | None = None,
        tags: tuple[str, ...] = (),
        author: str = "system",
        retry_in: float | Backoff | None = None,
        checkpoint_every: float = 5.0,
        progress_every: float = 1.0,
        poll: float = 1.0,
        grace: float = 10.0,
        cancel_grace: float = 10.0,
        shutdown_timeout: float = 30.0,
    ) -> None:
        check_handle(db)
        if not isinstance(cast("object", registry), Registry):
            refuse("registry", registry, "a Registry, or none for that of @job")
        self.db = db
        self.registry = registry
        self._author = check_text(author, "author", MAX_AUTHOR, least=1)
        self._names = names = registry.job_names()
        self._at_work = False
        once = frozenset(name for name in names if not registry.get(name).resumable)
        work = Work(
            waiting=TaskStage.QUEUED, working=TaskStage.RUNNING, after=TaskStage.COMPLETED,
            handler=JobHandler(registry), concurrency=concurrency, tags=check_tags(tags),
            names=tuple(names), once=once, retry_in=retry_in, checkpoint_every=checkpoint_every,
            progress_every=progress_every,
        )  # fmt: skip
        terms = Terms(
            poll=poll, grace=grace, cancel_grace=cancel_grace, data_root=check_root(data_root),
            keep_data=keep_data,
            shutdown_timeout=shutdown_timeout,
        )  # fmt: skip
        self.crew = Crew(db, [work] if names else [], terms)

    async def __aenter__(self) -> Self:
        try:
            unknown = await self.unknown_jobs()
        except (SchemaError, HandleClosed):
            raise
        except PandoraDbError as error:  # it is only told; the workers meet it too
            log.debug("it is not known which jobs nobody knows: %s", error)
        else:
            words = "jobs called %r wait (%d): this program does not know them"
            for name, count in unknown.items():
                log.warning(words, name, count)
        await self.crew.__aenter__()
        self._at_work = True
        if not self._names:
            log.warning("this manager works on nothing: %s", _REGISTER_FIRST)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._at_work = False
        await self.crew.__aexit__(kind, error, traceback)

    async def dispatch(self, job: BaseModel, **options: Unpack[DispatchOptions]) -> JobHandle:
        """Queue a job.

        Args:
            job: of a registered class.
            **options: see `make_job`.

        Raises:
            InvalidInput: its class is not registered, or another bad argument.
            Serialization: a field cannot be kept.
            Duplicate: `external_id` is taken.
        """
        definition = self.registry.definition_of(job)
        job_id = await self.db.insert_job(self.make_job(job, **options))
        if self._at_work and definition.name not in self._names:
            log.warning("job %d waits, and not for this manager: %s", job_id, _REGISTER_FIRST)
        self.crew.ring()
        if options.get("idempotency_key") is not None:  # it may be a job of another class
            return await self.handle(job_id) or JobHandle(self.db, job_id)
        return JobHandle(self.db, job_id, definition)

    def make_job(
        self,
        job: BaseModel,
        *,
        priority: int = 0,
        delay: float = 0.0,
        author: str | None = None,
        idempotency_key: str | None = None,
        external_id: str | None = None,
        max_attempts: int | None = None,
        tags: tuple[str, ...] = (),
    ) -> Job:
        """What `dispatch` stores, for `tx.insert_job` in a transaction.

        `handle(job_id)` gives the handle afterwards.

        Args:
            job: of a registered class.
            priority: higher goes first.
            delay: seconds before it may begin, by this machine's clock.
            author: whose job it is; None takes that of the manager.
            idempotency_key: a second dispatch with the same key returns the first job.
            external_id: an id of another system, such as a UUID, unique among all jobs.
            max_attempts: how often it is tried; one that is not resumable is tried once.
            tags: what a worker must offer.

        Raises:
            InvalidInput: its class is not registered, or another bad argument.
            Serialization: a field cannot be kept.
        """
        return make_job(
            self.registry.definition_of(job), job,
            author=self._author if author is None else author,
            priority=priority, delay=delay, idempotency_key=idempotency_key,
            external_id=external_id, max_attempts=max_attempts, tags=tags,
        )  # fmt: skip

    async def dispatch_by_name(
        self, name: str, params: object, **options: Unpack[DispatchOptions]
    ) -> JobHandle:
        """Queue a job made of JSON text, or of a dict of its fields; see `dispatch`.

        Raises:
            InvalidInput: the name is unknown, or the parameters do not fit; `.field` names which.
        """
        return await self.dispatch(self.registry.create_job(name, params), **options)

    async def handle(self, job_id: int) -> JobHandle | None:
        """The handle of a job that was dispatched before; None when there is none.

        Where this registry does not know its name, its result is its output as JSON.
        """
        row = await self.db.get_job(job_id)
        if row is None or row.job_type != JobType.TASK:
            return None
        return JobHandle(self.db, job_id, self.registry.find(row))

    def list_job_types(self) -> list[JobDefinition]:
        """What is known of each job that can be dispatched."""
        return [self.registry.get(name) for name in self.registry.job_names()]

    def get_job_schema(self, name: str) -> dict[str, Any] | None:
        """The JSON Schema of its parameters; None for an unknown name."""
        return self.registry.get_job_schema(name)

    async def list_running_jobs(self) -> list[JobInfo]:
        """All that some process works on, newest first."""
        rows = self.db.iter_jobs(job_type=JobType.TASK, status=JobStatus.RUNNING)
        return [JobInfo.of(row) async for row in rows]

    async def list_jobs(
        self, status: JobStatus | str | None = None, *, limit: int = 100
    ) -> list[JobInfo]:
        """Registered jobs, newest first; at most `limit`, 1 … 100,000."""
        rows = await self.db.get_jobs(limit=limit, job_type=JobType.TASK, status=status)
        return [JobInfo.of(row) for row in rows]

    async def get_job_info(self, job_id: int) -> JobInfo | None:
        """All that is known of a job; None when there is none."""
        row = await self.db.get_job(job_id)
        return None if row is None or row.job_type != JobType.TASK else JobInfo.of(row)

    async def unknown_jobs(self) -> Counter[str]:
        """How many jobs wait whose name this registry does not know, by name."""
        counts = await self.db.name_counts(TaskStage.QUEUED)
        unknown = {name: n for name, n in counts.items() if not self.registry.has_job(name or "")}
        return Counter({name or "": count for name, count in unknown.items()})

    async def pause_job(self, job_id: int) -> bool:
        """Pause a job, in whatever process; see `db.pause_job`.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: it has ended, or it is worked on and not resumable.
        """
        definition = self.registry.find(await self.db.get_job(job_id))
        done = await JobHandle(self.db, job_id, definition).pause()
        await self.crew.hear(job_id)
        return done

    async def resume_job(self, job_id: int) -> None:
        """Let a paused job go on from its state; see `db.resume_job`."""
        await self.db.resume_job(job_id)
        self.crew.ring()

    async def cancel_job(self, job_id: int) -> bool:
        """Cancel a job, in whatever process; see `db.cancel_job`."""
        done = await self.db.cancel_job(job_id)
        await self.crew.hear(job_id)
        return done
