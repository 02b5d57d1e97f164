"""`Pipeline`: handlers by stage, declared in a few lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

from pandora_db.codecs.claim import check_lease, check_names, check_route
from pandora_db.codecs.stage import check_stage
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import check_tags
from pandora_db.models.claim import Backoff, Limits
from pandora_db.models.stage import StageCode, StageKind, stage_info
from pandora_db.runtime.crew import Crew, check_handle
from pandora_db.runtime.data_dirs import check_root
from pandora_db.runtime.signatures import check_async
from pandora_db.runtime.work import Handler, Terms, Work

if TYPE_CHECKING:
    from pandora_db.db import JobDb

H = TypeVar("H", bound=Handler)


class Pipeline:
    """Handlers by stage.

    pipeline = Pipeline()

    @pipeline.stage(Stage.QUEUED, Stage.DOWNLOADING, Stage.DOWNLOADED, concurrency=2)
    async def download(ctx: JobContext) -> None: ...

    async with pipeline.running(db):
        ...
    """

    def __init__(self) -> None:
        self.works: list[Work] = []

    def stage(
        self,
        waiting: StageCode | int,
        working: StageCode | int,
        after: StageCode | int,
        *,
        concurrency: int = 1,
        limits: Limits | None = None,
        lease: float | None = None,
        tags: Iterable[str] = (),
        names: Iterable[str] | None = None,
        timeout: float | None = None,
        retry_in: float | Backoff | None = None,
        resumable: bool = True,
        checkpoint_every: float = 5.0,
        progress_every: float = 1.0,
    ) -> Callable[[H], H]:
        """Have a function do the work of a stage: `async def encode(ctx): ...`.

        It returns nothing or an output, and the job goes on to `after`; or an outcome: `Done`,
        `Snooze`, `Fail`, `Cancelled`. What it raises fails the attempt.

        Args:
            waiting: where the jobs wait.
            working: where they are worked on.
            after: where they go when the work is done: a later waiting stage, or a terminal one.
            concurrency: how many at once in this process, 1 … 1,000.
            limits: how many at once over all processes; give each the same.
            lease: seconds that a claim counts without a sign of life, more than `heartbeat` of
                the handle; None takes the setting.
            tags: what this worker offers, such as "gpu".
            names: only jobs with one of these names.
            timeout: seconds that an attempt may take, above 0; then it has failed.
            retry_in: seconds, or a `Backoff`, before another attempt.
            resumable: False for work that must not be begun again: it is not paused, a shutdown
                waits for it, and when it is cut off then, its job fails.
            checkpoint_every: seconds between two checkpoints that are not forced.
            progress_every: seconds between two writes of progress.

        Raises:
            InvalidInput: a job goes no such way, another handler has that stage, or another bad
                argument.
        """
        start, at = check_route(waiting, working)
        end = _check_after(at, after)
        offered = check_tags(tags)
        chosen = None if names is None else tuple(check_names(names))

        def register(handler: H) -> H:
            name = f"the handler {getattr(handler, '__qualname__', repr(handler))}"
            check_async(handler, name, "async def work(ctx)", arguments=1, field="handler")
            self._add(
                Work(
                    waiting=start,
                    working=at,
                    after=end,
                    handler=handler,
                    concurrency=concurrency,
                    limits=limits,
                    lease=lease,
                    tags=offered,
                    names=chosen,
                    timeout=timeout,
                    retry_in=retry_in,
                    resumable=resumable,
                    checkpoint_every=checkpoint_every,
                    progress_every=progress_every,
                )
            )
            return handler

        return register

    def running(
        self,
        db: JobDb,
        *,
        data_root: str | os.PathLike[str] | None = None,
        keep_data: float | None = None,
        poll: float = 1.0,
        grace: float = 10.0,
        cancel_grace: float = 10.0,
        shutdown_timeout: float = 30.0,
    ) -> Crew:
        """Work on jobs for the length of an `async with` block, then end gracefully.

        Args:
            db: an open handle.
            data_root: a folder in which each job may have one of its own, `ctx.data_dir`.
            keep_data: seconds after the end of a job when its folder is removed; None keeps it.
                Of jobs that were deleted too, and never of one that may go on.
            poll: the longest pause between two looks for jobs, and for what is asked of those at
                work, in seconds.
            grace: seconds for a handler to meet a pause or a cancellation by itself; then its task
                is cancelled.
            cancel_grace: seconds for a cancelled handler to end; then it is given up.
            shutdown_timeout: seconds for everything to end after the block; handlers are asked to
                stop at once and cancelled at 70 % of it. What remains is left to its lease.

        Raises:
            InvalidInput: no stage was declared, the lease of one is no longer than the heartbeat
                of `db`, or another bad argument.
            SchemaMissing: by the `async with`; call `init_schema` first.
        """
        check_handle(db)
        if not self.works:
            raise InvalidInput("the pipeline has no stage; declare one with @pipeline.stage(…)")
        for work in self.works:
            if work.lease is not None:
                check_lease(work.lease, db.settings.heartbeat)
        return Crew(
            db, self.works,
            Terms(
                poll=poll, grace=grace, cancel_grace=cancel_grace, data_root=check_root(data_root),
                keep_data=keep_data,
                shutdown_timeout=shutdown_timeout,
            ),
        )  # fmt: skip

    def _add(self, work: Work) -> None:
        for other in self.works:
            if (other.waiting, other.names, other.tags) == (work.waiting, work.names, work.tags):
                raise InvalidInput(
                    f"jobs at {work.waiting.name} have a handler already, for the same names and "
                    f"tags: {getattr(other.handler, '__name__', other.handler)}",
                    field="waiting",
                )
        self.works.append(work)


def _check_after(working: StageCode, value: object) -> StageCode:
    after = check_stage(value, "after")
    here, there = stage_info(working), stage_info(after)
    onward = there.kind is StageKind.WAITING and there.code > here.code
    if there.pipeline != here.pipeline or not (onward or there.kind.terminal):
        raise InvalidInput(
            f"after is {there.name}; expected a waiting stage behind {here.name}, or a terminal "
            "one, of the same pipeline",
            field="after",
        )
    return after
