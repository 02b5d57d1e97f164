"""Children: jobs that another job has begun."""

from __future__ import annotations

from pandora_db.codecs.checks import check_id, check_text
from pandora_db.errors import InvalidInput, InvalidTransition, NotFound, OutcomeUnknown
from pandora_db.models.claim import Claim
from pandora_db.models.job import Job
from pandora_db.models.job_row import JobRow
from pandora_db.models.limits import MAX_KEY
from pandora_db.models.stage import stage_info
from pandora_db.models.status import Hold
from pandora_db.store.held_claim import HeldClaim
from pandora_db.store.job_inserts import JobInserts
from pandora_db.store.job_moves import JobMoves
from pandora_db.store.job_states import JobState
from pandora_db.store.refusals import deleted, refused


class Children(JobInserts, JobMoves):
    """Part of `Store`."""

    async def insert_child(self, parent: int | Claim, job: Job, *, key: str) -> int:
        """Store a job as the child of another one and return its id.

        Once for each parent and key: a later call, such as that of the parent's next attempt, is
        answered with the child that is there. When the parent is cancelled, so are its children
        that have not ended.

        Args:
            parent: the claim on the parent, under which alone this counts, or its id.
            job: what to store, as in `insert_job`; without an `idempotency_key`, which `key` is.
            key: what tells the children of this parent apart, 1 … 256 characters.

        Raises:
            NotFound: there is no such parent.
            LeaseLost: the claim no longer counts; nothing was stored.
            InvalidTransition: the parent has ended, or is being cancelled.
            Duplicate: `job_id` or `external_id` is taken.
            InvalidInput: a bad argument.
            OutcomeUnknown: the connection was lost, and did not come back in time; call it again.
        """
        claim = parent if isinstance(parent, HeldClaim) else None
        if claim is not None:
            self._leases.check(claim)
        parent_id = check_id(parent if claim is None else claim.job_id, "parent")
        check_text(key, "key", MAX_KEY, least=1)
        if getattr(job, "idempotency_key", None) is not None:
            raise InvalidInput(
                "a child has no idempotency_key; its parent and its key stand in for it",
                field="idempotency_key",
            )
        try:
            with self._leases.noting_loss(claim):
                return await self._insert_child(parent_id, claim, job, key)
        except OutcomeUnknown as error:
            raise OutcomeUnknown(None, "insert_child") from error.__cause__

    async def _insert_child(
        self, parent_id: int, claim: HeldClaim | None, job: Job, key: str
    ) -> int:
        async with self._session.unit() as unit:
            inside = Children(unit, self._leases)
            _check_parent(await inside._lock(parent_id), parent_id, claim)
            found = await unit.read("find_child", {"parent_id": parent_id, "key": key})
            if found:
                return int(found[0][0])
            child_id = await inside.insert_job(job)
            args = {"parent_id": parent_id, "key": key, "child_id": child_id}
            await unit.take("record_child", args)
            return child_id

    async def get_children(self, job_id: int) -> list[JobRow]:
        """The children of a job that are there, in the order of their ids."""
        return await self._jobs("get_children", {"parent_id": check_id(job_id)})

    async def get_parent(self, job_id: int) -> int | None:
        """The job whose child this one is; None when it is nobody's, or the parent was deleted."""
        rows = await self._session.read("get_parent", {"job_id": check_id(job_id)})
        return int(rows[0][0]) if rows else None


def _check_parent(state: JobState | None, parent_id: int, claim: Claim | None) -> None:
    """The lock keeps it so until the child is stored: what cancels it then finds the child."""
    if state is None:
        raise NotFound(parent_id) if claim is None else deleted(claim)
    if claim is not None and state.token != claim.token:
        raise refused(claim, state)
    info = stage_info(state.ready)
    if info.kind.terminal:
        advice = "it has ended, and a job that has ended begins no other"
        raise InvalidTransition(parent_id, info.name, "a parent", advice)
    if state.hold == Hold.CANCEL:
        raise InvalidTransition(parent_id, info.name, "a parent", "it is being cancelled")
