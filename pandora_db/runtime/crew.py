"""`Crew`: the workers of one process, begun and ended together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pandora_db.db import JobDb, internals
from pandora_db.drivers.tasks import finish
from pandora_db.errors import HandleClosed, PandoraDbError, SchemaError
from pandora_db.models.checks import counted, refuse
from pandora_db.models.stage import StageKind, stage_info
from pandora_db.runtime.data_dirs import dirs_of
from pandora_db.runtime.requests import Requests
from pandora_db.runtime.retention import Retention
from pandora_db.runtime.worker import Worker
from pandora_db.services.recovered import tell_recovered

if TYPE_CHECKING:
    from pandora_db.models.claim import Claim
    from pandora_db.models.stage import StageCode
    from pandora_db.runtime.work import Terms, Work

log = logging.getLogger("pandora_db")

_ASKED = 0.7
"""Part of the time to shut down that handlers have before they are cancelled."""
_CUT = 0.25
"""Part of it that they have to end then; the rest is for writing."""
_LEAST = 0.1
"""Seconds that a cancelled handler has in any case: to end, in some turns of the loop, and for the
call that gives its job back."""
_LONGEST = 31_536_000.0
"""Seconds to wait for leases: each is over, or renewed, when its own time is."""


def check_handle(db: object) -> None:
    """Refuse what is no handle, before anything is made of it."""
    if not isinstance(db, JobDb):
        refuse("db", db, "an open JobDb: `async with JobDb.open(…) as db`")


class Crew:
    """What `pipeline.running(db)` gives: its workers, at work.

    Ending is graceful: handlers are asked to stop, keep their state, and their jobs are given back;
    after a while they are cancelled; what remains is left to its lease.

    Attributes:
        db: the handle.
        workers: one for each handler.
    """

    def __init__(self, db: JobDb, works: Sequence[Work], terms: Terms) -> None:
        self.db = db
        self._terms = terms
        self._changed = asyncio.Event()
        self._begun = False
        self._stopped = False
        self._retention: Retention | None = None
        self.workers = [
            Worker(db, work, terms, on_change=self._changed.set, on_done=self._hand_on)
            for work in works
        ]
        self._requests = Requests(db, self._in_hand, terms.poll)

    async def __aenter__(self) -> Self:
        self._check_unused()
        try:
            await self._count_elsewhere("these come here if their leases run out")
        except (SchemaError, HandleClosed):  # nothing could ever be claimed
            raise
        except PandoraDbError as error:
            log.debug("the workers meet it too, and say so: %s", error)
        root = self._terms.data_root
        dirs = None if root is None else await dirs_of(self.db, root)
        self._check_unused()  # by somebody else meanwhile
        self._begun = True
        if dirs is not None and self._terms.keep_data is not None:
            self._retention = Retention(self.db, dirs, self._terms.keep_data)
        if self.workers:
            log.info(
                "working on jobs at %s", ", ".join(str(worker.work) for worker in self.workers)
            )
        for worker in self.workers:
            # Polling goes on beside it.
            lookout = internals(self.db).lookout
            worker.start(lookout.seek([worker.work.waiting], worker.wake.ring), dirs)
        self._requests.start()
        if self._retention is not None:
            self._retention.start()
        return self

    def _check_unused(self) -> None:
        if self._begun or self._stopped:
            raise RuntimeError(
                "these workers have begun or were stopped before; they work once: make new ones"
            )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def ring(self) -> None:
        """Have every worker look for jobs now: some were inserted."""
        for worker in self.workers:
            worker.wake.ring()

    async def hear(self, job_id: int) -> None:
        """Have what was asked of a job reach its handler now, if that is at work here."""
        if claims := [claim for claim in self._claims() if claim.job_id == job_id]:
            with suppress(PandoraDbError):  # it was asked, and is heard of later
                await self.db.refresh_claims(claims)

    @property
    def running(self) -> list[int]:
        """The jobs that are worked on in this process."""
        return sorted(claim.job_id for claim in self._claims())

    async def wait_idle(self) -> None:
        """Wait until no job can be claimed and none is worked on here.

        Jobs at work elsewhere are waited for until their leases are renewed, within a heartbeat,
        or run out: those of a worker that was lost are taken back and done here. Jobs that are
        paused, wait for their time, are locked by a transaction, or are worked on by a worker that
        lives are not waited for; the log (INFO) says how many wait. Handlers that were given up and
        go on are waited for where there are as many as hands.
        """
        while True:
            await self._quiet()
            if all(worker.over for worker in self.workers):
                return
            try:
                waits = "waiting until these are renewed or run out"
                if await self._count_elsewhere(waits):
                    tell_recovered((await self.db.recover(wait=_LONGEST)).jobs)
            except HandleClosed:
                return
            except PandoraDbError as error:
                log.warning("no jobs can be recovered: %s", error)
                await asyncio.sleep(self._terms.poll)
            else:
                await self._quiet()
                await self._tell_left()
                return

    async def wait_settled(self) -> None:
        """Wait until no job can be claimed, and what is worked on here waits for other jobs."""
        await self._until(lambda worker: worker.settled)

    async def _quiet(self) -> None:
        await self._until(lambda worker: worker.idle)

    async def _until(self, quiet: Callable[[Worker], bool]) -> None:
        if not self._begun:
            raise RuntimeError("these workers have not begun: `async with` comes first")
        self.ring()
        while not all(worker.over or quiet(worker) for worker in self.workers):
            self._changed.clear()
            await self._changed.wait()

    async def _count_elsewhere(self, what: str) -> int:
        """How many jobs are at work at our stages and not by us; says so in the log."""
        count = -len(self.running)
        for stage in {worker.work.working for worker in self.workers}:
            count += await self.db.count_jobs(stage=stage, archived=False)
        if count > 0:
            log.info("under leases of other workers, %s: %s", counted(count, "job"), what)
        return max(count, 0)

    async def _tell_left(self) -> None:
        """Say in the log which jobs wait that no worker here may take now."""
        if not log.isEnabledFor(logging.INFO):
            return
        ours = [one for worker in self.workers for one in (worker.work.waiting, worker.work.after)]
        for stage in dict.fromkeys(one for one in ours if one.kind is StageKind.WAITING):
            with suppress(PandoraDbError):  # it is only told
                if count := await self.db.count_jobs(stage=stage, archived=False):
                    log.info(
                        "%s left at %s: paused, waiting for a time, or not for workers like these",
                        counted(count, "job"), stage_info(stage).name,
                    )  # fmt: skip

    async def stop(self) -> None:
        """End within `shutdown_timeout`; goes on to its end when the caller is cancelled.

        It may be called any number of times, also at once: each returns when all has ended.
        """
        self._stopped = True
        await finish(self._stop())

    async def _stop(self) -> None:
        loop = asyncio.get_running_loop()
        began, most = loop.time(), self._terms.shutdown_timeout
        if self._retention is not None:
            await self._retention.stop()
        await asyncio.gather(*(worker.stop() for worker in self.workers))
        await self._ended_by(began + most * _ASKED)
        for worker in self.workers:
            worker.cut()
        await self._ended_by(began + most * (_ASKED + _CUT))
        for worker in self.workers:
            worker.give_up()
        await self._ended_by(began + most)
        for worker in self.workers:
            worker.leave()
        if tasks := self._tasks():
            await asyncio.wait(tasks)
        self._requests.stop()

    def _in_hand(self) -> list[Claim]:
        return [claim for worker in self.workers for claim in worker.claims]

    def _claims(self) -> list[Claim]:
        return [claim for worker in self.workers for claim in worker.running]

    def _tasks(self) -> list[asyncio.Task[Any]]:
        return [task for worker in self.workers for task in worker.under_way()]

    async def _ended_by(self, when: float) -> None:
        loop = asyncio.get_running_loop()
        when = max(when, loop.time() + _LEAST)
        while (tasks := self._tasks()) and (left := when - loop.time()) > 0:
            await asyncio.wait(tasks, timeout=left)

    def _hand_on(self, stage: StageCode) -> None:
        """A job came to wait at `stage`."""
        for worker in self.workers:
            if worker.work.waiting == stage:
                worker.wake.ring()
