"""Moving jobs along, holding them, and taking them out."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID

from pandora_db.codecs.checks import check_id, clean_error
from pandora_db.codecs.stage import check_stage, live_range
from pandora_db.errors import (
    PASSING,
    InvalidTransition,
    NotFound,
    OutcomeUnknown,
    TransactionAborted,
    UnknownCode,
)
from pandora_db.models.claim import Claim
from pandora_db.models.event import EventKind
from pandora_db.models.job_type import JobType
from pandora_db.models.pipeline import Pipeline, pipeline_of
from pandora_db.models.stage import STAGES, StageCode, StageInfo, StageKind, stage_info, stage_of
from pandora_db.models.status import Hold
from pandora_db.store.claim_ends import ClaimEnds
from pandora_db.store.held_claim import HeldClaim
from pandora_db.store.job_states import JobState, Standstill
from pandora_db.store.operation import Operation, operation

_TRIES = 5


class _Move(NamedTuple):
    """What `move_job` makes of a job, and the event that it leaves."""

    kind: EventKind
    stage: StageCode
    archived: bool = False
    hold: Hold = Hold.NONE
    error: str | None = None
    detail: str | None = None


class JobMoves(ClaimEnds):
    """Part of `Store`."""

    async def update_stage(
        self, job_id: int | Claim, stage: StageCode | int, *, operation_id: UUID | None = None
    ) -> None:
        """Move a job to a later stage of its pipeline (seed: libpndb).

        Given a claim, this is `finish_job(claim, stage)`: it ends the claim, and counts only when
        the claim still does.

        Jumping forward is allowed, leaving a terminal stage or moving back is not. The call
        overrides: a worker that holds a lease on the job loses it. Staying is no change.

        Raises:
            NotFound: there is no such job.
            LeaseLost: the claim no longer counts; nothing was written.
            InvalidTransition: the job has ended, or is further already.
            UnknownCode: no stage has that number.
        """
        if isinstance(job_id, HeldClaim):
            await self.finish_job(job_id, stage, operation_id=operation_id)
            return
        number = check_id(job_id)
        wanted = check_stage(stage)
        lowest, highest = live_range(wanted)
        call = operation(operation_id)
        args = {
            "job_id": number,
            "stage": wanted.value,
            "lowest": lowest,
            "highest": highest,
            "restarts": wanted.kind is StageKind.WAITING,
            "operation_id": call.id,
        }

        def there(state: JobState) -> bool:
            if state.ready is None or not lowest <= state.ready <= highest:
                if state.ready == wanted:
                    return True
                raise _forbidden(number, stage_info(state.ready), wanted)
            return state.ready == wanted

        await self._write("update_stage", args, call, EventKind.STAGE, there)

    async def archive_job(self, job_id: int, *, operation_id: UUID | None = None) -> None:
        """Take a job out of the active ones; it stays in the log (seed: libpndb).

        Works at any stage: whoever works on it has lost it, and it stays at the working stage until
        `requeue_job` or `cancel_job`; `cancel_job` alone asks the worker to stop. The first call
        sets `completed_at`, later ones change nothing.

        Raises:
            NotFound: there is no such job.
        """
        check_id(job_id)
        call = operation(operation_id)
        args = {"job_id": job_id, "operation_id": call.id}
        await self._write(
            "archive_job", args, call, EventKind.ARCHIVED, lambda state: state.archived
        )

    async def retry_job(self, job_id: int, *, operation_id: UUID | None = None) -> None:
        """Take a job that has ended back to its first waiting stage, for a new attempt.

        It leaves the archive, and its error moves to the history.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job has not ended.
            UnknownCode: nobody knows its stage.
        """

        def rule(state: JobState) -> _Move:
            info = stage_info(state.ready)
            first = pipeline_of(info.pipeline).first
            if not info.kind.terminal:
                if info.code != first:
                    advice = "it has not ended; requeue_job() takes it back to its first stage"
                elif state.hold == Hold.PAUSE:
                    advice = "it has not ended; resume_job() lets it go on"
                else:
                    advice = "it has not ended, and waits for a worker already"
                raise InvalidTransition(job_id, info.name, "retried", advice, verb="be")
            return _Move(EventKind.RETRIED, first, detail=state.error)

        await self._move(job_id, operation(operation_id), rule, EventKind.RETRIED)

    async def requeue_job(self, job_id: int, *, operation_id: UUID | None = None) -> None:
        """Take a job that has not ended back to its first waiting stage.

        Whoever works on it loses it, and what was asked of it before, a pause or a cancellation, is
        withdrawn. A job whose stage nobody knows is taken back too, by its type. One that waits
        there already stays as it is.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job has ended.
            UnknownCode: nobody knows its stage nor its type.
        """

        def rule(state: JobState) -> _Move | EventKind:
            first = _pipeline(state).first
            if state.ready == first and not state.archived and not state.hold:
                return EventKind.REQUEUED
            info = None if state.ready is None else STAGES.get(state.ready)
            if info is not None and info.kind.terminal:
                raise _forbidden(job_id, info, first)
            return _Move(EventKind.REQUEUED, first, error=state.error)

        await self._move(job_id, operation(operation_id), rule, EventKind.REQUEUED)

    async def cancel_job(self, job_id: int, *, operation_id: UUID | None = None) -> bool:
        """Cancel a job: at once while it waits, by request while a worker has it.

        So are its children that have not ended, and theirs, all in one transaction.

        Returns:
            True when the job is cancelled (and archived), False when its worker was asked to stop.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job has ended otherwise.
            UnknownCode: nobody knows its stage.
        """
        check_id(job_id)
        call = operation(operation_id)
        if await self._session.read("find_children", {"parent_id": job_id}):
            return await self._cancel_all(job_id, call)
        done = await self._cancel(job_id, call)
        try:
            # One that was begun before the parent was cancelled, and after that look.
            if await self._session.read("find_children", {"parent_id": job_id}):
                return await self._cancel_all(job_id, call)
        except PASSING as error:
            if not self._leases.lasting:
                raise
            raise OutcomeUnknown(UUID(call.id), "cancel_job") from error  # the job itself is
        return done

    async def _cancel_all(self, job_id: int, call: Operation) -> bool:
        tries = _TRIES if self._leases.lasting else 1
        while True:
            tries -= 1
            try:
                async with self._session.unit() as unit:
                    family = JobMoves(unit, self._leases)
                    return await family._cancel_family(job_id, call)
            except TransactionAborted:  # it holds many rows, and others want those too
                if not tries:
                    raise
            except OutcomeUnknown as error:
                raise OutcomeUnknown(UUID(call.id), "cancel_job") from error.__cause__

    async def _cancel_family(self, job_id: int, call: Operation) -> bool:
        done = await self._cancel(job_id, call)
        parents = [job_id]
        for parent_id in parents:  # as it grows
            for (child_id,) in await self._session.read("find_children", {"parent_id": parent_id}):
                # It has ended otherwise, was deleted meanwhile, or is of a newer program.
                with suppress(InvalidTransition, NotFound, UnknownCode):
                    await self._cancel(child_id, operation(None))
                    parents.append(child_id)
        return done

    async def _cancel(self, job_id: int, call: Operation) -> bool:
        def rule(state: JobState) -> _Move | EventKind:
            info = stage_info(state.ready)
            cancelled = pipeline_of(info.pipeline).cancelled
            if info.code == cancelled:
                return EventKind.CANCELLED
            if info.kind.terminal:
                raise _forbidden(job_id, info, cancelled)
            if info.kind is not StageKind.WORKING or state.archived:  # archived, nobody has it
                return _Move(EventKind.CANCELLED, cancelled, archived=True, error=state.error)
            if state.hold == Hold.CANCEL:
                return EventKind.CANCEL_REQUESTED
            return _stay(state, EventKind.CANCEL_REQUESTED, Hold.CANCEL)

        kinds = (EventKind.CANCELLED, EventKind.CANCEL_REQUESTED)
        done = await self._move(job_id, call, rule, *kinds)
        return done is EventKind.CANCELLED

    async def decline_job(
        self, job_id: int, *, reason: str | None = None, operation_id: UUID | None = None
    ) -> None:
        """Refuse a job that waits; it is archived, with the reason as its error and in its history.

        It goes to the stage DECLINED; in a pipeline without one, to the cancelled stage.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job is being worked on, or has ended.
            UnknownCode: nobody knows its stage.
        """
        text = None if reason is None else clean_error(reason, "reason")

        def rule(state: JobState) -> _Move | EventKind:
            info = stage_info(state.ready)
            declined = pipeline_of(info.pipeline).declined
            if info.code == declined:
                return EventKind.DECLINED
            if info.kind.terminal:
                raise _forbidden(job_id, info, declined)
            if info.kind is StageKind.WORKING:
                raise _forbidden(
                    job_id, info, declined, "a worker has it; cancel_job() asks it to stop"
                )
            return _Move(EventKind.DECLINED, declined, archived=True, error=text, detail=text)

        await self._move(job_id, operation(operation_id), rule, EventKind.DECLINED)

    async def pause_job(self, job_id: int, *, operation_id: UUID | None = None) -> bool:
        """Keep a job from being claimed: at once while it waits, by request while it is worked on.

        A paused job keeps its checkpoint; `resume_job` lets it go on. A worker of the runtime whose
        work is not resumable takes the request back.

        Returns:
            True when the job is paused, False when its worker was asked to give it back.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job has ended, or is being cancelled.
            UnknownCode: nobody knows its stage.
        """

        def rule(state: JobState) -> _Move | EventKind:
            working = _holdable(job_id, state, "paused").kind is StageKind.WORKING
            kind = EventKind.PAUSE_REQUESTED if working else EventKind.PAUSED
            if state.hold == Hold.PAUSE:
                return kind
            return _stay(state, kind, Hold.PAUSE)

        kinds = (EventKind.PAUSED, EventKind.PAUSE_REQUESTED)
        done = await self._move(job_id, operation(operation_id), rule, *kinds)
        return done is EventKind.PAUSED

    async def resume_job(self, job_id: int, *, operation_id: UUID | None = None) -> None:
        """Let a paused job be claimed again; one that is not paused stays as it is.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job has ended, or is being cancelled.
            UnknownCode: nobody knows its stage.
        """

        def rule(state: JobState) -> _Move | EventKind:
            _holdable(job_id, state, "resumed")
            if state.hold == Hold.NONE:
                return EventKind.RESUMED
            return _stay(state, EventKind.RESUMED, Hold.NONE)

        await self._move(job_id, operation(operation_id), rule, EventKind.RESUMED)

    async def delete_job(self, job_id: int, *, operation_id: UUID | None = None) -> None:
        """Delete a job and its history for good; `history()` still tells that and when it was.

        Raises:
            NotFound: there is no such job.
        """
        call = operation(operation_id)
        args = {"job_id": check_id(job_id), "operation_id": call.id}
        # One key for all: a statement signs the deletions that it makes with one operation.
        row = await self._session.write("delete_job", args, "delete_job", repeated=call.repeated)
        if row is None and not await self._session.find_outcome("find_deletion", args):
            raise NotFound(job_id)

    async def _move(
        self,
        job_id: int,
        call: Operation,
        rule: Callable[[JobState], _Move | EventKind],
        *kinds: EventKind,
    ) -> EventKind:
        """Make the move that `rule` finds for the job as it stands; its kind.

        Asked again when another call came between. A rule that finds nothing left to do answers
        with the kind of what was done already.
        """
        check_id(job_id)
        standstill = Standstill(job_id)
        tried = False
        while True:
            state = await self._state(job_id, call, kinds, tried=tried)
            if state.done is not None:
                return EventKind(state.done)
            move = rule(state)
            if isinstance(move, EventKind):
                return move
            args = {
                "job_id": job_id,
                "event_seq": state.event_seq,
                "stage": move.stage.value,
                "archived": move.archived,
                "hold": move.hold.value,
                "error": move.error,
                "kind": move.kind.value,
                "detail": move.detail,
                "operation_id": call.id,
            }
            if await self._session.write("move_job", args, job_id) is not None:
                return move.kind
            standstill.saw(state)
            tried = True


def _holdable(job_id: int, state: JobState, wanted: str) -> StageInfo:
    """The stage of a job that may be paused and resumed; raises `InvalidTransition`."""
    info = stage_info(state.ready)
    if info.kind.terminal:
        raise InvalidTransition(job_id, info.name, wanted, "it has ended", verb="be")
    if state.hold == Hold.CANCEL:
        raise InvalidTransition(job_id, info.name, wanted, "it is being cancelled", verb="be")
    return info


def _pipeline(state: JobState) -> Pipeline:
    """By its stage, or by its type where nobody knows the stage.

    The types below 100 are libpndb's and its kin's, who all begin at `Stage.QUEUED`.
    """
    info = None if state.ready is None else STAGES.get(state.ready)
    if info is not None:
        return pipeline_of(info.pipeline)
    number = state.job_type
    return pipeline_of(JobType.ENCODE if number is None or number < JobType.TASK else number)


def _stay(state: JobState, kind: EventKind, hold: Hold) -> _Move:
    """Note what was asked of the job, at the stage where it is."""
    return _Move(kind, stage_of(state.ready), archived=state.archived, hold=hold, error=state.error)


def _forbidden(
    job_id: int, current: StageInfo, wanted: StageCode, advice: str | None = None
) -> InvalidTransition:
    there = stage_info(wanted)
    name = there.name
    if there.pipeline != current.pipeline:
        own, other = pipeline_of(current.pipeline), pipeline_of(there.pipeline)
        name = f"{name} of the pipeline {other.name}"
        advice = f"it stays in its own, which is {own.name}"
    elif advice is None:
        advice = (
            "it has ended; retry_job() begins it again"
            if current.kind.terminal
            else "a job moves forward; requeue_job() takes it back to its first stage"
        )
    return InvalidTransition(job_id, current.name, name, advice)
