"""How a claim ends: finished, failed, snoozed or given back. Every write compares its token."""

from __future__ import annotations

import os
import random
from collections.abc import Awaitable, Iterable, Sequence
from functools import cache
from itertools import islice
from typing import Any, NamedTuple, cast
from uuid import UUID

from pandora_db.codecs.checks import check_path, check_text, clean_error
from pandora_db.codecs.claim import check_seconds, ending
from pandora_db.codecs.json_text import Json, encode_json
from pandora_db.codecs.stage import check_stage
from pandora_db.drivers.base import Row
from pandora_db.errors import InvalidInput, InvalidTransition, LeaseLost, NotFound, PandoraDbError
from pandora_db.models.checks import refuse
from pandora_db.models.claim import Backoff, Claim, Finish
from pandora_db.models.event import EventKind
from pandora_db.models.light import light
from pandora_db.models.limits import MAX_STEP
from pandora_db.models.stage import StageCode, StageKind, stage_info, stage_of
from pandora_db.store.held_claim import HeldClaim, check_claim
from pandora_db.store.job_states import JobStates
from pandora_db.store.operation import Operation, operation
from pandora_db.store.refusals import deleted, refused

_NOTHING, _THE_STAGES, _ALL = 0, 1, 2  # whose checkpoints go
_BACKOFF = Backoff()
_MOST = 10_000  # of finish_jobs
_AT_ONCE = 500


@cache
def _route(worked: StageCode, to: StageCode, kind: EventKind) -> dict[str, Any]:
    """What end_claim is asked with whenever a claim ends that way."""
    waits = stage_info(to).kind is StageKind.WAITING
    return {
        "stage": to.value,
        "archived": to.terminal,
        "cancelled": ending(worked, StageKind.CANCELLED).value if waits else None,
        "worked": worked.value,
        "kind": kind.value,
        "drop": _NOTHING,
        "keep_error": True,
        "delay": None,
        "error": None,
        "detail": None,
        "output": None,
        "output_kind": None,
        "output_file": None,
    }


@cache
def _way_out(worked: StageCode, to: StageCode) -> dict[str, Any] | None:
    """The same for a finish; None when a job goes no such way."""
    there, here = stage_info(to), stage_info(worked)
    onward = there.kind is StageKind.WAITING and to > worked
    if there.pipeline != here.pipeline or not (onward or there.kind.terminal):
        return None
    ended_well = there.kind in (StageKind.DONE, StageKind.CANCELLED)
    return _route(worked, to, EventKind.FINISHED) | {
        "keep_error": there.kind is StageKind.FAILED,
        "drop": _ALL if ended_well else _THE_STAGES,
    }


class _End(NamedTuple):
    """The end of a claim: where the job is to go, the arguments of end_claim, and its call."""

    claim: HeldClaim
    to: StageCode
    args: dict[str, Any]
    call: Operation


_end_of = light(_End)
_finish_of = light(Finish)


class ClaimEnds(JobStates):
    """Part of `Store`."""

    async def finish_job(
        self,
        claim: Claim,
        stage: StageCode | int,
        *,
        output: Json = None,
        output_kind: str | None = None,
        output_file: str | os.PathLike[str] | None = None,
        operation_id: UUID | None = None,
    ) -> StageCode:
        """End the claim: the job goes on to `stage`; at a terminal one it has ended for good.

        The stage's checkpoint is dropped, the attempts count from 0 again, and a job that has ended
        is archived. `update_stage(claim, stage)` is the same without an output.

        Args:
            claim: the claim.
            stage: a later waiting stage, or a terminal one of the job's pipeline.
            output: the result as JSON; None leaves what is stored.
            output_kind: what kind of result it is, at most 256 characters.
            output_file: a file that was made.
            operation_id: repeats an earlier call.

        Returns:
            Where the job is now: at `stage`, or at CANCELLED when its cancellation had been asked
            for and it would have waited again.

        Raises:
            LeaseLost: the claim no longer counts; nothing was written.
            InvalidTransition: the job goes no way from its stage to that one.
        """
        finish = _finish_of((claim, stage, output, output_kind, output_file))
        return await self._write_end(self._finish(finish, operation(operation_id)))

    async def finish_jobs(self, finishes: Iterable[Finish]) -> list[StageCode | PandoraDbError]:
        """End many claims, each as `finish_job` would, in a few calls of the database.

        Each has an outcome of its own: one that is lost, or cannot be written, stops none of the
        others. What is cancelled half-way may have been done for some. In a transaction, an error
        of the database is raised, so that the transaction is undone.

        Args:
            finishes: at most 10,000.

        Returns:
            In their order, where each job is now, or the error that `finish_job` would raise, such
            as `LeaseLost`. `OutcomeUnknown` has an `operation_id`, for `finish_job` to repeat it.

        Raises:
            InvalidInput, InvalidTransition: one of them is refused; nothing was written.
        """
        several = cast("object", finishes)
        if isinstance(several, Finish) or not isinstance(several, Iterable):
            refuse("finishes", several, "several Finish(claim, stage)")
        given = list(islice(finishes, _MOST + 1))
        if len(given) > _MOST:
            raise InvalidInput(
                f"finishes has more than {_MOST:,}; give them in parts", field="finishes"
            )
        ends = [self._finish(finish, operation(None)) for finish in given]
        outcomes: list[StageCode | PandoraDbError] = []
        for first in range(0, len(ends), _AT_ONCE):
            part = ends[first : first + _AT_ONCE]
            try:
                outcomes += await self._write_ends(part)
            except PandoraDbError as error:
                if not outcomes:
                    raise
                outcomes += [error] * len(part)  # those before have ended, and are told so
        return outcomes

    async def fail_job(
        self,
        claim: Claim,
        error: str | BaseException,
        *,
        retry_in: float | Backoff | None = None,
        final: bool = False,
        operation_id: UUID | None = None,
    ) -> bool:
        """End the claim by a failure: the job waits for another attempt, or fails for good.

        It fails when its attempts are used up (`Job.max_attempts`, else the setting of that name).
        The error of every attempt stays in the history; the checkpoint is kept.

        Args:
            claim: the claim.
            error: text or an exception, cut at 16,384 characters.
            retry_in: seconds to wait before the next attempt, or a `Backoff` of one's own; by
                default 10 s, then twice as long each time up to an hour, with jitter.
            final: no further attempt: the error is not one that passes.
            operation_id: repeats an earlier call.

        Returns:
            True when the job waits for another attempt.

        Raises:
            LeaseLost: the claim no longer counts; nothing was written.
        """
        held = check_claim(claim)
        text = clean_error(error)
        wait = retry_wait(retry_in, held.attempt)
        most = held.job.max_attempts or self._leases.settings.max_attempts
        call = operation(operation_id)
        told = {"keep_error": False, "error": text, "detail": text, "attempt_left": held.attempt}
        if final or held.attempt >= most:
            failed = ending(held.stage, StageKind.FAILED)
            args = _route(held.stage, failed, EventKind.FAILED) | told
            await self._end(held, failed, args, call)
            return False
        back = _back(held)
        args = _route(held.stage, back, EventKind.RETRYING) | told | {"delay": wait}
        return await self._end(held, back, args, call) == back

    async def snooze_job(
        self, claim: Claim, seconds: float, *, operation_id: UUID | None = None
    ) -> StageCode:
        """End the claim: the job waits, for at least `seconds`, and the attempt does not count.

        For what is not ready yet. The checkpoint is kept.

        Returns:
            Where the job is now: where it waits, or CANCELLED when that had been asked for.

        Raises:
            LeaseLost: the claim no longer counts; nothing was written.
        """
        held = check_claim(claim)
        delay = check_seconds(seconds, "seconds")
        back = _back(held)
        left = {"attempt_left": held.attempt - 1, "delay": delay}
        args = _route(held.stage, back, EventKind.SNOOZED) | left
        return await self._end(held, back, args, operation(operation_id))

    async def release_job(self, claim: Claim, *, operation_id: UUID | None = None) -> StageCode:
        """End the claim: give the job back, to be claimed at once; the attempt does not count.

        For a worker that shuts down, or meets a pause. The checkpoint is kept.

        Returns:
            Where the job is now: where it waits, or CANCELLED when that had been asked for.

        Raises:
            LeaseLost: the claim no longer counts; nothing was written.
        """
        held = check_claim(claim)
        back = _back(held)
        left = {"attempt_left": held.attempt - 1}
        args = _route(held.stage, back, EventKind.RELEASED) | left
        return await self._end(held, back, args, operation(operation_id))

    def _finish(self, finish: object, call: Operation) -> _End:
        if not isinstance(finish, Finish):
            refuse("finishes", finish, "several Finish(claim, stage)")
        held = check_claim(finish.claim)
        to = check_stage(finish.stage)
        way = _way_out(held.stage, to)
        if way is None:
            raise InvalidTransition(
                held.job_id, stage_info(held.stage).name, stage_info(to).name,
                "a claim ends at a later waiting or terminal stage of the job; release_job() and "
                "fail_job() give the job back",
            )  # fmt: skip
        args = way.copy()
        if finish.output is not None:
            args["output"] = encode_json(finish.output, "output")
        if finish.output_kind is not None:
            args["output_kind"] = check_text(finish.output_kind, "output_kind", MAX_STEP)
        if finish.output_file is not None:
            args["output_file"] = check_path(finish.output_file, "output_file")
        args["attempt_left"] = held.job.attempt if args["archived"] else 0
        return self._told(_end_of((held, to, args, call)))

    def _told(self, end: _End) -> _End:
        """Complete the arguments of a route by what tells this claim and this call."""
        claim, _, args, call = end
        self._leases.check(claim)
        args["job_id"] = claim.job.job_id
        args["token"] = claim.token
        args["attempt"] = claim.job.attempt
        args["owner"] = claim.owner
        args["operation_id"] = call.id
        return end

    async def _end(
        self, claim: HeldClaim, to: StageCode, args: dict[str, Any], call: Operation
    ) -> StageCode:
        return await self._write_end(self._told(_End(claim, to, args, call)))

    async def _write_end(self, end: _End) -> StageCode:
        claim = end.claim
        lost: str | None = None
        claim.ending += 1  # meanwhile nobody shall take its absence for a loss
        try:
            row = await self._session.write("end_claim", end.args, end.args["job_id"])
            return self._ended(end, row) if row else await self._ended_before(end)
        except LeaseLost as error:
            lost = error.reason
            raise
        finally:
            claim.ending -= 1
            if lost is not None:
                self._leases.lost(claim, lost)

    async def _write_ends(self, ends: Sequence[_End]) -> list[StageCode | PandoraDbError]:
        for end in ends:
            end.claim.ending += 1
        try:
            args = [end.args for end in ends]
            rows = await self._session.write_each("end_claim", args, "job_id")
            outcomes = [
                row if isinstance(row, PandoraDbError)
                else self._ended(end, row) if row
                else await _outcome(self._ended_before(end))
                for end, row in zip(ends, rows, strict=True)
            ]  # fmt: skip
        finally:
            for end in ends:
                end.claim.ending -= 1
        for end, outcome in zip(ends, outcomes, strict=True):
            if isinstance(outcome, LeaseLost):
                self._leases.lost(end.claim, outcome.reason)
        return outcomes

    def _ended(self, end: _End, row: Row) -> StageCode:
        self._leases.ended(end.claim)
        return end.to if row[1] == end.to else stage_of(row[1])

    async def _ended_before(self, end: _End) -> StageCode:
        """Where this very call had ended it before; raises `LeaseLost` when it had not."""
        claim, _, args, call = end
        kind = EventKind(args["kind"])
        try:
            state = await self._state(claim.job_id, call, (kind, EventKind.CANCELLED), tried=True)
        except NotFound:
            raise deleted(claim) from None
        if state.done is None:
            raise refused(claim, state)
        self._leases.ended(claim)
        return stage_of(args["cancelled"] if state.done == EventKind.CANCELLED else args["stage"])


async def _outcome(ending: Awaitable[StageCode]) -> StageCode | PandoraDbError:
    try:
        return await ending
    except PandoraDbError as error:
        return error


def _back(claim: Claim) -> StageCode:
    """Where the job waits for another attempt at its stage."""
    code = stage_info(claim.stage).returns_to
    assert code is not None, "a working stage has one"  # noqa: S101
    return stage_of(code)


def retry_wait(retry_in: object, attempt: int) -> float:
    """Seconds before the attempt after `attempt`: None takes the default, a `Backoff` its own."""
    if retry_in is None:
        retry_in = _BACKOFF
    if isinstance(retry_in, Backoff):
        return retry_in.wait(attempt, random.random())  # noqa: S311 - jitter
    if isinstance(retry_in, bool):
        raise InvalidInput(
            "retry_in is a bool; give seconds or a Backoff, and final=True for no retry",
            field="retry_in",
        )
    return check_seconds(retry_in, "retry_in")
