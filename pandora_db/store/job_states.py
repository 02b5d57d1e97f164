"""What a write met that changed nothing, and whether it had been done before."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from pandora_db.drivers.base import Args
from pandora_db.errors import InvalidInput, NotFound, WriteRefused
from pandora_db.models.event import EventKind
from pandora_db.store.operation import Operation
from pandora_db.store.repository import Repository

_STANDSTILL = 3


class JobState(NamedTuple):
    """What `find_state` answers; `done` is the kind of event that this operation left, if any."""

    ready: int | None
    archived: bool
    hold: int
    error: str | None
    event_seq: int
    token: int | None
    owner: str | None
    done: int | None
    job_type: int | None


class Standstill:
    """Notices that a write changes nothing although nobody else changed the job either."""

    def __init__(self, job_id: int) -> None:
        self._job_id = job_id
        self._seen = -1
        self._times = 0

    def saw(self, state: JobState) -> None:
        """Count the sight of a job as it was before; raises `WriteRefused` at the third."""
        self._times = self._times + 1 if state.event_seq == self._seen else 1
        self._seen = state.event_seq
        if self._times == _STANDSTILL:
            raise WriteRefused(f"job {self._job_id} stayed as it was")


class JobStates(Repository):
    """The part that moves, updates, claims and checkpoints stand on."""

    async def _write(
        self,
        name: str,
        args: Args,
        call: Operation,
        kind: EventKind,
        settled: Callable[[JobState], bool],
    ) -> None:
        """Write until it took effect, was done before, or `settled` says it need not."""
        job_id: Any = args["job_id"]
        standstill = Standstill(job_id)
        while await self._session.write(name, args, job_id, repeated=call.repeated) is None:
            state = await self._state(job_id, call, (kind,), tried=True)
            if state.done is not None or settled(state):
                return
            standstill.saw(state)

    async def _lock(self, job_id: int) -> JobState | None:
        """How the job is, kept so until the transaction ends; None when there is none."""
        rows = await self._session.read("lock_job", {"job_id": job_id})
        return JobState._make(rows[0]) if rows else None

    async def _state(
        self, job_id: int, call: Operation, kinds: Collection[EventKind], *, tried: bool
    ) -> JobState:
        """How the job is now; `tried`: after a write of this call that may have been done.

        Raises:
            NotFound: there is no such job.
            InvalidInput: the operation id belongs to a call of another kind than `kinds`.
        """
        read = self._session.find_outcome if tried else self._session.read
        rows = await read("find_state", {"job_id": job_id, "operation_id": call.id})
        if not rows:
            raise NotFound(job_id)
        state = JobState._make(rows[0])
        if state.done is not None and state.done not in kinds:
            raise InvalidInput(
                f"operation_id {call.id} was used on job {job_id} for another call "
                f"({EventKind(state.done).name}); give each call an id of its own",
                field="operation_id",
            )
        return state
