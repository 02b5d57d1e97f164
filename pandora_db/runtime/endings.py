"""Writing the end of a claim, through failures of the database that pass."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pandora_db.codecs.claim import ending
from pandora_db.codecs.json_text import Json
from pandora_db.errors import (
    ConnectionFailed,
    InsideTransaction,
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
from pandora_db.runtime.outcomes import Cancelled, Done, Fail, Outcome, Snooze, plain_output

if TYPE_CHECKING:
    from pandora_db.models.claim import Claim
    from pandora_db.runtime.work import Work
    from pandora_db.store import Store

log = logging.getLogger("pandora_db")

_PASSING = (
    ConnectionFailed, LockTimeout, OutcomeUnknown, PoolTimeout, StatementTimeout, StorageError,
    TransactionAborted,
)  # fmt: skip
_FIRST, _MOST = 0.1, 5.0  # seconds between two tries


async def end_claim(  # noqa: C901 - one clause for each way in which it can go wrong
    db: Store, claim: Claim, outcome: Outcome | None, work: Work
) -> None:
    """Write what an outcome means for the job; None gives it back.

    Tries again as long as the claim may count: its lease is renewed meanwhile, if that can be.

    Raises:
        InsideTransaction: this task is in an open transaction of the handle; nothing was written.
    """
    if claim.lost:
        log.info("job %d: %s", claim.job_id, claim.error())
    call: UUID | None = None
    pause = _FIRST
    while not claim.lost:
        try:
            await _write(db, claim, outcome, work, call)
            break
        except LeaseLost as error:
            log.info("job %d was taken from its worker: %s", claim.job_id, error.reason)
            claim.lose(error.reason)
        except InvalidInput as error:
            if not isinstance(outcome, Done):
                raise
            # An output that cannot be kept; it will be no better.
            outcome = Fail(f"the handler returned what cannot be kept: {error}", final=True)
        except _PASSING as error:
            if isinstance(error, OutcomeUnknown):
                call = error.operation_id
            if pause == _FIRST:
                log.warning("the end of job %d could not be written yet: %s", claim.job_id, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _MOST)
        except PandoraDbError as error:
            if isinstance(error, InsideTransaction):
                raise
            log.error("the end of job %d was refused: %s", claim.job_id, error)  # noqa: TRY400
            break
    if isinstance(outcome, Cancelled):
        await _cancel_children(db, claim)


def _write(
    db: Store, claim: Claim, outcome: Outcome | None, work: Work, call: UUID | None
) -> Coroutine[Any, Any, object]:
    """The call that writes it; `call` is the operation id of one before, which is repeated."""
    if isinstance(outcome, Done):
        output: Any = plain_output(outcome.output)
        return db.finish_job(
            claim, work.after, output=output, output_kind=outcome.kind, output_file=outcome.file,
            operation_id=call,
        )  # fmt: skip
    if isinstance(outcome, Fail):
        wait = work.retry_in if outcome.retry_in is None else outcome.retry_in
        return db.fail_job(
            claim, outcome.error, retry_in=wait, final=outcome.final, operation_id=call
        )
    if isinstance(outcome, Snooze):
        return db.snooze_job(claim, outcome.seconds, operation_id=call)
    if isinstance(outcome, Cancelled):
        stage = ending(work.working, StageKind.CANCELLED)
        reason: Json = None if outcome.reason is None else {"reason": outcome.reason}
        kind = None if reason is None else "cancelled"
        return db.finish_job(claim, stage, output=reason, output_kind=kind, operation_id=call)
    return db.release_job(claim, operation_id=call)


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
