"""What the log says of attempts: of each that failed, and of each that was stopped."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pandora_db.codecs.checks import clean_error
from pandora_db.models.stage import StageKind, stage_info
from pandora_db.models.status import Hold

if TYPE_CHECKING:
    from pandora_db.models.claim import Claim
    from pandora_db.models.stage import StageCode
    from pandora_db.runtime.outcomes import Fail

log = logging.getLogger("pandora_db")


def log_raised(claim: Claim, outcome: Fail, error: BaseException | None) -> None:
    """An attempt failed, and its handler did not say so itself: a warning, with the traceback."""
    words = _first_line(outcome)
    log.warning(
        "job %d: attempt %d failed: %s", claim.job_id, claim.attempt, words, exc_info=error
    )  # fmt: skip


def log_failed(claim: Claim, outcome: Fail, wait: float | None) -> None:
    """The end of a failed attempt is stored; `wait` is in seconds, None when it was the last."""
    if log.isEnabledFor(logging.INFO):
        then = "not tried again" if wait is None else f"tried again in {wait:.1f} s"
        words = _first_line(outcome)
        log.info("job %d: attempt %d: %s; %s", claim.job_id, claim.attempt, words, then)


def log_stopped(claim: Claim, at: StageCode, *, begun: bool) -> None:
    """A handler was stopped, or not begun at all, and its job is at `at` now."""
    if stage_info(at).kind is StageKind.CANCELLED:
        became = "cancelled"
    elif claim.hold is Hold.PAUSE:
        became = "paused"
    else:
        became = f"given back, waits at {stage_info(at).name}"
    what = "stopped" if begun else "not begun"
    log.info("job %d: attempt %d was %s: %s", claim.job_id, claim.attempt, what, became)


def _first_line(outcome: Fail) -> str:
    return clean_error(outcome.error).partition("\n")[0]
