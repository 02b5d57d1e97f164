"""`JobContext`: what a handler works with."""

from __future__ import annotations

import asyncio
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pandora_db.errors import Interrupted, InvalidInput, InvalidTransition, NotFound
from pandora_db.models.claim import Claim
from pandora_db.models.status import Hold, JobStatus
from pandora_db.runtime.checkpointing import Checkpointing
from pandora_db.runtime.family import Family
from pandora_db.runtime.registry import REGISTRY, Registry
from pandora_db.runtime.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from pandora_db.db import JobDb
    from pandora_db.models.job import Job
    from pandora_db.models.job_row import JobRow
    from pandora_db.runtime.data_dirs import DataDirs
    from pandora_db.runtime.handle import JobHandle
    from pandora_db.runtime.hands import Hand
    from pandora_db.runtime.job_info import JobInfo
    from pandora_db.store.checkpoints import Upgrade


class JobContext(Telling):
    """One attempt at one job, in the hands of its handler.

    Everything that is written through it counts only as long as the claim does.

    Attributes:
        db: the handle; in a handler, `ctx.db.update_job(ctx.claim, …)` writes under the claim.
        claim: the claim.
        stopped_for: what `check_interrupt` has raised `Interrupted` for; None if it has not.
    """

    def __init__(
        self,
        db: JobDb,
        claim: Claim,
        *,
        checkpoint_every: float = 5.0,
        progress_every: float = 1.0,
        dirs: DataDirs | None = None,
        hand: Hand | None = None,
    ) -> None:
        super().__init__(db, claim, progress_every)
        self._hand = hand
        self._checkpoint_every = checkpoint_every
        self._dirs = dirs
        self._reason: str | None = None
        self.stopped_for: str | None = None
        self._state: Callable[[], tuple[object, int]] | None = None
        self._registry: Registry | None = None

    # Made when they are needed: a short job needs none of them.

    @cached_property
    def _family(self) -> Family:
        return Family(self.db, self.claim, self._hand, self._registry or REGISTRY)

    @cached_property
    def _asked(self) -> asyncio.Event:
        asked = asyncio.Event()
        if self._reason is not None:
            asked.set()
        return asked

    @cached_property
    def _checkpoints(self) -> Checkpointing:
        return Checkpointing(self.db, self.claim, self._checkpoint_every)

    @property
    def job(self) -> JobRow:
        """The job as it was claimed."""
        return self.claim.job

    @property
    def attempt(self) -> int:
        """How often the job was begun at this stage, this time included."""
        return self.claim.attempt

    @property
    def interrupted(self) -> str | None:
        """What was asked of the handler: a "pause", a "cancel", a "shutdown"; None for nothing."""
        return self._reason

    async def check_interrupt(self) -> None:
        """Stop here if that was asked for; call it between steps, where the state is consistent.

        What was given to `checkpoint` and not written yet is written first.

        Raises:
            Interrupted: let it pass; the worker gives the job back.
            LeaseLost: the claim no longer counts.
        """
        await asyncio.sleep(0)  # a handler that does nothing but compute lets others go on here
        if self.claim.lost:
            raise self.claim.error()
        if self._reason is not None:
            await self._checkpoints.flush_last()
            self.stopped_for = self._reason
            raise Interrupted(self._reason)

    async def checkpoint(
        self, state: object = None, *, version: int = 1, force: bool = False
    ) -> bool:
        """Have the state kept for the next attempt; cheap to call after each step.

        It is written when `checkpoint_every` seconds have passed since the last time, when `force`
        is given, and when the handler was asked to stop. One that was not written is written, as it
        is then, by the next `check_interrupt` that meets a request: change the state between steps
        only. While the database is away it is not written, and tried again later, unless `force`
        is given.

        Args:
            state: what `save_checkpoint` takes; of a registered job, whose state are its fields,
                None.
            version: the version of the state's shape.
            force: write it now.

        Returns:
            Whether it was written.

        Raises:
            LeaseLost: the claim no longer counts; nothing was written.
            InvalidInput: the state cannot be kept; the error names the path in it.
        """
        if state is not None and self._state is not None:
            raise InvalidInput(
                "state was given by a registered job, which goes on with its own fields; "
                "expected no state: change the fields, then call checkpoint()",
                field="state",
            )
        read = self._state if state is None else lambda: (state, version)
        if read is None:
            raise InvalidInput("state is None; expected what shall be kept", field="state")
        return await self._checkpoints.save(read, force=force, stopping=self._reason is not None)

    async def load_checkpoint(
        self, *, version: int | None = None, upgrade: Upgrade | None = None
    ) -> Any:  # noqa: ANN401 - whatever was saved
        """The state that the attempt before this one kept; None when there is none.

        Raises:
            CheckpointCorrupt: no good copy is left, or this program cannot read it.
        """
        return await self._checkpoints.load(version=version, upgrade=upgrade)

    async def spawn(
        self,
        job: BaseModel | Job,
        *,
        key: str | None = None,
        priority: int | None = None,
        delay: float = 0.0,
        max_attempts: int | None = None,
        tags: tuple[str, ...] = (),
    ) -> JobHandle:
        """Begin another job as a child of this one, once: the next attempt finds it again.

        When this job is cancelled, so are its children that have not ended.

        Args:
            job: of a registered class, or a `Job` of any pipeline.
            key: what tells the children of this job apart. None makes one of the job's name and
                parameters, so that an equal job is the same child; a `Job` needs one.
            priority: higher goes first; None takes one more than this job's, so that children go
                before further jobs that would wait for theirs. A `Job` has its own.
            delay: seconds before it may begin, by this machine's clock; for a registered job, as
                all that follows.
            max_attempts: how often it is tried.
            tags: what a worker must offer.

        Raises:
            Interrupted: this job is being cancelled; let it pass.
            LeaseLost: the claim no longer counts; nothing was begun.
            InvalidInput: its class is not registered, or another bad argument, such as a `delay`
                for a `Job`.
            Serialization: a field cannot be kept.
        """
        options = {"priority": priority, "delay": delay, "max_attempts": max_attempts, "tags": tags}
        try:
            return await self._family.spawn(job, key, options)
        except InvalidTransition:  # asked for, and not heard of yet
            self.interrupt("cancel")
            raise Interrupted("cancel") from None

    async def children(self) -> list[JobInfo]:
        """The children of this job, also those of earlier attempts, as they are now."""
        return await self._family.children()

    async def wait(self, child: JobHandle | int) -> JobInfo:
        """Wait until a child has ended, and return what became of it: a failure is no exception.

        Meanwhile the worker's hand is free for another job, such as the child; the lease goes on.
        What was given to `checkpoint` is written first.

        Raises:
            Interrupted: a pause, a cancellation or a shutdown was asked for; let it pass. The next
                attempt waits again.
            NotFound: the child was deleted.
            InvalidInput: this is no child of the job.
        """
        child_id = await self._family.check(child)
        found = await self._wait([child_id])
        if not found:
            raise NotFound(child_id)
        return found[0]

    async def wait_children(self) -> list[JobInfo]:
        """Wait until all children have ended, and return what became of each; see `wait`."""
        return await self._wait([child.id for child in await self.children()])

    async def _wait(self, child_ids: list[int]) -> list[JobInfo]:
        await self.check_interrupt()
        await self._checkpoints.flush()
        try:
            found = await self._family.wait(child_ids, self._asked)
        except Interrupted:
            await self.check_interrupt()  # says what was asked
            raise
        if any(child.status is JobStatus.CANCELLED for child in found):
            # With this job perhaps, of which nobody has told it yet: by the same transaction.
            await self.db.refresh_claims([self.claim])
            if self.claim.hold is Hold.CANCEL:
                self.interrupt("cancel")
            await self.check_interrupt()
        return found

    @property
    def data_dir(self) -> Path:
        """A folder of this job's own, the same in every attempt on this machine.

        It stays until `keep_data` seconds after the end of the job, if that was given.

        Raises:
            InvalidInput: the worker was started without `data_root`.
        """
        if self._dirs is None:
            raise InvalidInput(
                "there is no folder for the data of jobs; start the workers with data_root=…",
                field="data_root",
            )
        return self._dirs.make(self.job_id)

    def use_state(self, state: Callable[[], tuple[object, int]]) -> None:
        """Say what `checkpoint()` keeps when it is given nothing: a state and its version."""
        self._state = state

    def use_registry(self, registry: Registry) -> None:
        """Say where the classes of children are registered; `REGISTRY` otherwise."""
        self._registry = registry

    def interrupt(self, reason: str) -> None:
        """Ask the handler to stop; the first reason stays, but a cancellation outranks it."""
        if self._reason is None or reason == "cancel":
            self._reason = reason
        self._asked.set()
