"""Writing the end of a claim, through failures of the database that pass."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pandora_db.codecs.claim import ending
from pandora_db.codecs.json_text import Json
from pandora_db.errors import (
    ConnectionFailed,
    InvalidInput,
    InvalidTransition,
    LeaseLost,
    LockTimeout,
    NotFound,
    OutcomeUnknown,
    PandoraDbError,
    PoolTimeout,
    StatementTimeout,
    StorageError,
    TransactionAborted,
)
from pandora_db.models.stage import StageKind
from pandora_db.runtime.failures import log_failed, log_raised
from pandora_db.runtime.outcomes import Cancelled, Done, Fail, Outcome, Snooze, plain_output
from pandora_db.store.claim_ends import retry_wait

if TYPE_CHECKING:
    from pandora_db.models.claim import Claim
    from pandora_db.runtime.work import Work
    from pandora_db.store import Store

log = logging.getLogger("pandora_db")

End = Callable[[UUID | None], Awaitable[Any]]
_PASSING = (
    ConnectionFailed, LockTimeout, OutcomeUnknown, PoolTimeout, StatementTimeout, StorageError,
    TransactionAborted,
)  # fmt: skip
_FIRST, _MOST = 0.1, 5.0  # seconds between two tries


async def end_claim(db: Store, claim: Claim, outcome: Outcome | None, work: Work) -> None:
    """Write what an outcome means for the job; None gives it back.

    Tries again as long as the claim may count: its lease is renewed meanwhile, if that can be.
    """
    if isinstance(outcome, Done):
        try:
            await _write(claim, _done(db, claim, outcome, work))
        except InvalidInput as error:  # an output that cannot be kept; it will be no better
            refusal = Fail(f"the handler returned what cannot be kept: {error}", final=True)
            log_raised(claim, refusal, error)
            await _write(claim, _fail(db, claim, refusal, work))
    elif isinstance(outcome, Fail):
        await _write(claim, _fail(db, claim, outcome, work))
    elif isinstance(outcome, Snooze):
        seconds = outcome.seconds
        await _write(claim, lambda call: db.snooze_job(claim, seconds, operation_id=call))
    elif isinstance(outcome, Cancelled):
        stage = ending(work.working, StageKind.CANCELLED)
        reason: Json = None if outcome.reason is None else {"reason": outcome.reason}
        kind = None if reason is None else "cancelled"
        await _write(
            claim,
            lambda call: db.finish_job(
                claim, stage, output=reason, output_kind=kind, operation_id=call
            ),
        )
        await _cancel_children(db, claim)
    else:
        await _write(claim, lambda call: db.release_job(claim, operation_id=call))


def _done(db: Store, claim: Claim, outcome: Done, work: Work) -> End:
    output: Any = plain_output(outcome.output)
    return lambda call: db.finish_job(
        claim, work.after, output=output, output_kind=outcome.kind, output_file=outcome.file,
        operation_id=call,
    )  # fmt: skip


def _fail(db: Store, claim: Claim, outcome: Fail, work: Work) -> End:
    retry_in = work.retry_in if outcome.retry_in is None else outcome.retry_in
    wait = retry_wait(retry_in, claim.attempt)

    async def end(call: UUID | None) -> None:
        again = await db.fail_job(
            claim, outcome.error, retry_in=wait, final=outcome.final, operation_id=call
        )
        log_failed(claim, outcome, wait if again else None)

    return end


async def _cancel_children(db: Store, claim: Claim) -> None:
    """Those of a job that has cancelled itself; it begins no more."""
    if claim.lost:
        return
    try:
        for child in await db.get_children(claim.job_id):
            with suppress(InvalidTransition, NotFound):
                await db.cancel_job(child.job_id)
    except PandoraDbError as error:
        log.warning("the children of job %d were not cancelled: %s", claim.job_id, error)


async def _write(claim: Claim, end: End) -> None:
    call: UUID | None = None
    pause = _FIRST
    while not claim.lost:
        try:
            await end(call)
        except LeaseLost as error:
            log.info("job %d was taken from its worker: %s", claim.job_id, error.reason)
            claim.lose(error.reason)
        except InvalidInput:
            raise
        except _PASSING as error:
            if isinstance(error, OutcomeUnknown):
                call = error.operation_id
            if pause == _FIRST:
                log.warning("the end of job %d could not be written yet: %s", claim.job_id, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MOST)
        except PandoraDbError as error:
            log.error("the end of job %d was refused: %s", claim.job_id, error)  # noqa: TRY400
            return
        else:
            return
