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
    if claim.lost:
        log.info("job %d: %s", claim.job_id, claim.error())
    elif claim.ended and not _says_nothing(outcome):
        log.warning(
            "job %d: its handler has ended the claim itself; that it then %s does not count",
            claim.job_id, "failed" if isinstance(outcome, Fail) else "returned something",
        )  # fmt: skip
    at: StageCode | None = None
    call: UUID | None = None
    pause = FIRST_PAUSE
    while claim.alive:
        try:
            if failed is not None:
                error, failed = failed, None
                raise error
            if told is not None and call is None:  # after an end that may be written it is too late
                await told.close()
            at = await _write(db, claim, outcome, work, call)
            break
        except LeaseLost as error:
            log.info("job %d was taken from its worker: %s", claim.job_id, error.reason)
            claim.lose(error.reason)
        except (InvalidInput, RecursionError, Serialization) as error:
            outcome = _unkept(claim, outcome, error)
        except PandoraDbError as error:
            if passes(error):
                call, pause = await _try_later(claim, error, call, pause)
            else:
                log.error("the end of job %d was refused: %s", claim.job_id, error)  # noqa: TRY400
                claim.lose(LEFT)
    return at


def _says_nothing(outcome: Outcome | None) -> bool:
    if isinstance(outcome, Done):
        return outcome.output is None and outcome.file is None
    return outcome is None


async def _try_later(
    claim: Claim, error: PandoraDbError, call: UUID | None, pause: float
) -> tuple[UUID | None, float]:
    """Wait; the operation id and the pause of the next try."""
    if isinstance(error, OutcomeUnknown):
        call = error.operation_id
    if pause == FIRST_PAUSE:
        log.warning("the end of job %d could not be written yet: %s", claim.job_id, error)
    await asyncio.sleep(pause)
    return call, next_pause(pause)


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
        return _cancel(db, claim, outcome, work, call)
    return db.release_job(claim, operation_id=call)


async def _fail(db: Store, claim: Claim, outcome: Fail, work: Work, call: UUID | None) -> None:
    retry_in = work.retry_in if outcome.retry_in is None else outcome.retry_in
    wait = retry_wait(retry_in, claim.attempt)
    again = await db.fail_job(
        claim, outcome.error, retry_in=wait, final=outcome.final, operation_id=call
    )
    log_failed(claim, outcome, wait if again else None)


async def _cancel(
    db: JobDb, claim: Claim, outcome: Cancelled, work: Work, call: UUID | None
) -> StageCode:
    """The end of a job that has cancelled itself, and of its children; it begins no more."""
    stage = ending(work.working, StageKind.CANCELLED)
    reason: Json = None if outcome.reason is None else {"reason": outcome.reason}
    kind = None if reason is None else "cancelled"
    if not await db.get_children(claim.job_id):
        return await db.finish_job(claim, stage, output=reason, output_kind=kind, operation_id=call)
    async with db.transaction() as tx:
        await tx.finish_job(claim, stage, output=reason, output_kind=kind)
        await tx.cancel_job(claim.job_id)
    return stage
