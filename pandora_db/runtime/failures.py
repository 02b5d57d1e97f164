"""What the log says of failed attempts: a traceback where one was raised, a line for each end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pandora_db.codecs.checks import clean_error

if TYPE_CHECKING:
    from pandora_db.models.claim import Claim
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


def _first_line(outcome: Fail) -> str:
    return clean_error(outcome.error).partition("\n")[0]
