"""Writing the end of a claim, through failures of the database that pass."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pandora_db.codecs.claim import ending
from pandora_db.codecs.json_text import Json
from pandora_db.errors import (
    InvalidInput,
    LeaseLost,
    OutcomeUnknown,
    PandoraDbError,
    Serialization,
)
from pandora_db.models.claim import Finish
from pandora_db.models.stage import StageKind
from pandora_db.runtime.attempt_log import log_failed, log_raised
from pandora_db.runtime.outcomes import Cancelled, Done, Fail, Outcome, Snooze, plain_output
from pandora_db.runtime.passing import FIRST_PAUSE, next_pause, passes
from pandora_db.store.claim_ends import retry_wait
from pandora_db.store.held_claim import HeldClaim, check_claim

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.models.claim import Claim
    from pandora_db.models.stage import StageCode
    from pandora_db.runtime.reporter import Reporter
    from pandora_db.runtime.work import Work
    from pandora_db.store import Store

log = logging.getLogger("pandora_db")

LEFT = "it was left to its lease"
"""Said to a claim that is given up: as long as anything keeps it, it would be renewed."""


@contextmanager
def failing(claim: Claim) -> Generator[None]:
    """What fails in the block is told, and loses the claim."""
    try:
        yield
    except Exception:
        log.exception("a worker failed on job %d; its lease runs out", claim.job_id)
        # Whoever keeps the traceback keeps the claim too, which is renewed while it lives.
        claim.lose("its worker failed on it")


async def finish_claims(
    db: Store, ends: Sequence[tuple[Claim, Done]], work: Work
) -> Sequence[PandoraDbError | None]:
    """Write many ends at once; for each the error that it met, for `end_claim` to go on with.

    Raises whatever refuses them all, such as the output of one that cannot be kept.
    """
    outputs: list[Any] = [plain_output(done.output) for _, done in ends]
    found = await db.finish_jobs(
        Finish(claim, work.after, output, done.kind, done.file)
        for (claim, done), output in zip(ends, outputs, strict=True)
    )
    return [one if isinstance(one, PandoraDbError) else None for one in found]


async def end_claim(
    db: JobDb,
    claim: Claim,
    outcome: Outcome | None,
    work: Work,
    *,
    told: Reporter | None = None,
    failed: PandoraDbError | None = None,
) -> StageCode | None:
    """Write what an outcome means for the job; None gives it back. Where it is now, if known.

    Tries again as long as the claim may count: its lease is renewed meanwhile, if that can be.
    What was `told` last is written before it. `failed` is what the first try met, if there was one.
    Where the handler has ended the claim itself, as with other writes in one transaction, that is
    the end.
    """
    held = check_claim(claim)
    if held.lost:
        log.info("job %d: %s", claim.job_id, claim.error())
    call: UUID | None = None
    pause = FIRST_PAUSE
    while not (held.lost or held.settled):
        try:
            if failed is not None:
                error, failed = failed, None
                raise error
            if told is not None and call is None:  # after an end that may be written it is too late
                await told.close()
            return await _write(db, claim, outcome, work, call)
        except LeaseLost as error:
            if _is_over(held, error):
                break
            pause = await _wait(pause)
        except (InvalidInput, RecursionError, Serialization) as error:
            outcome = _unkept(claim, outcome, error)
        except PandoraDbError as error:
            call = _note_failure(claim, error, call, again=pause > FIRST_PAUSE)
            pause = await _wait(pause)
    if held.ended:
        _tell_of_own_end(claim, outcome, told)
    return None


def _is_over(claim: HeldClaim, error: LeaseLost) -> bool:
    """Whether it is lost, or its handler has ended it.

    Otherwise that end may be undone yet, or is being written by another call.
    """
    claim.lose(error.reason)
    if claim.lost:
        log.info("job %d was taken from its worker: %s", claim.job_id, error.reason)
    return claim.lost or (claim.ended and not claim.undecided)


def _note_failure(
    claim: Claim, error: PandoraDbError, call: UUID | None, *, again: bool
) -> UUID | None:
    """Lose the claim when that will not pass; otherwise the operation id of the next try."""
    if not passes(error):
        log.error("the end of job %d was refused: %s", claim.job_id, error)
        claim.lose(LEFT)
    elif not again:
        log.warning("the end of job %d could not be written yet: %s", claim.job_id, error)
    return error.operation_id if isinstance(error, OutcomeUnknown) else call


async def _wait(pause: float) -> float:
    """Wait; the next pause."""
    await asyncio.sleep(pause)
    return next_pause(pause)


def _tell_of_own_end(claim: Claim, outcome: Outcome | None, told: Reporter | None) -> None:
    """Say what does not count any more, as the handler has ended the claim itself."""
    words = "job %d: its handler has ended the claim itself; %s"
    if isinstance(outcome, Fail):
        log.warning(words, claim.job_id, "that it then failed does not count")
    elif not _says_nothing(outcome):
        log.warning(words, claim.job_id, "what it then returned does not count")
    if told is not None and told.is_due:
        log.warning(words, claim.job_id, "what it told last was not written")


def _says_nothing(outcome: Outcome | None) -> bool:
    if isinstance(outcome, Done):
        return outcome.output is None and outcome.file is None
    return outcome is None


def _unkept(claim: Claim, outcome: Outcome | None, error: Exception) -> Fail:
    """What becomes of an output that cannot be kept: it will be no better."""
    if not isinstance(outcome, Done):
        raise error
    refusal = Fail(f"the handler returned what cannot be kept: {error}", final=True)
    log_raised(claim, refusal, error)
    return refusal


def _write(
    db: JobDb, claim: Claim, outcome: Outcome | None, work: Work, call: UUID | None
) -> Coroutine[Any, Any, StageCode | None]:
    """The call that writes it; `call` is the operation id of one before, which is repeated."""
    if isinstance(outcome, Done):
        output: Any = plain_output(outcome.output)
        return db.finish_job(
            claim, work.after, output=output, output_kind=outcome.kind, output_file=outcome.file,
            operation_id=call,
        )  # fmt: skip
    if isinstance(outcome, Fail):
        return _fail(db, claim, outcome, work, call)
    if isinstance(outcome, Snooze):
        return db.snooze_job(claim, outcome.seconds, operation_id=call)
    if isinstance(outcome, Cancelled):
        return _cancel(db, claim, outcome, work)
    return db.release_job(claim, operation_id=call)


async def _fail(db: Store, claim: Claim, outcome: Fail, work: Work, call: UUID | None) -> None:
    retry_in = work.retry_in if outcome.retry_in is None else outcome.retry_in
    wait = retry_wait(retry_in, claim.attempt)
    again = await db.fail_job(
        claim, outcome.error, retry_in=wait, final=outcome.final, operation_id=call
    )
    log_failed(claim, outcome, wait if again else None)


async def _cancel(db: JobDb, claim: Claim, outcome: Cancelled, work: Work) -> StageCode:
    """The end of a job that has cancelled itself, and of its children; it begins no more."""
    stage = ending(work.working, StageKind.CANCELLED)
    reason: Json = None if outcome.reason is None else {"reason": outcome.reason}
    kind = None if reason is None else "cancelled"
    async with db.transaction() as tx:  # a child that is just being begun waits for its end
        await tx.finish_job(claim, stage, output=reason, output_kind=kind)
        await tx.cancel_job(claim.job_id)
    return stage
