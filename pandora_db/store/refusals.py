"""Why a write under a claim changed nothing."""

from __future__ import annotations

from pandora_db.drivers.base import Session
from pandora_db.errors import LeaseLost, WriteRefused
from pandora_db.models.claim import Claim
from pandora_db.models.event import stage_name
from pandora_db.store.job_states import JobState


def deleted(claim: Claim) -> LeaseLost:
    """The error for a write under `claim` that met no job."""
    return LeaseLost(claim.job_id, claim.token, "the job was deleted")


def refused(claim: Claim, state: JobState) -> LeaseLost | WriteRefused:
    """The error for a write under `claim` that met `state`."""
    if state.token == claim.token:
        return WriteRefused(f"job {claim.job_id} stayed as it was")
    if claim.ended:
        reason = "it was ended before, by finish_job, fail_job, snooze_job or release_job"
    elif state.token is not None:
        reason = f"{state.owner} has it"
    else:
        reason = f"the job is at {stage_name(state.ready)}, without a lease"
    return LeaseLost(claim.job_id, claim.token, reason)


async def why_refused(session: Session, claim: Claim) -> LeaseLost | WriteRefused:
    """The same, by a look at the job."""
    rows = await session.read("find_state", {"job_id": claim.job_id, "operation_id": None})
    return refused(claim, JobState._make(rows[0])) if rows else deleted(claim)
