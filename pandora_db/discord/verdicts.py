"""What an error of a Discord library means, by the attributes that all of them have."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, cast


class Verdict(Enum):
    """What to do about a message that could not be edited or sent."""

    WAIT = auto()
    """Discord says when to come back."""
    RETRY = auto()
    """It may work later."""
    REPLACE = auto()
    """This message can no longer be edited; another one has to take its place."""
    REFUSED = auto()
    """Not with this text or these fields; the next may be better."""
    GONE = auto()
    """Neither this message nor another one in its channel."""


_REPLACE = {
    10008,  # unknown message: deleted, or ephemeral
    10015,  # unknown webhook: the interaction is over
    30046,  # too many edits of messages older than an hour; its status is 429
    50005,  # of another author: the bot has another account now
    50021,  # a system message
    50027,  # the token of the interaction has expired
    50083,  # the thread is archived; a new message brings it back
}
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TIMEOUT, _TOO_MANY, _SERVER = 401, 403, 404, 408, 429, 500


def judge(error: BaseException) -> Verdict:
    """What `error` means for the message."""
    if getattr(error, "code", 0) in _REPLACE:
        return Verdict.REPLACE
    if retry_after(error) is not None:
        return Verdict.WAIT
    status = cast("Any", getattr(error, "status", None))
    if not isinstance(status, int):
        # A mistake in the call, such as an argument that this library does not know. (Before the
        # client has logged in they all raise AttributeError.)
        wrong = isinstance(error, (TypeError, ValueError))
        return Verdict.REFUSED if wrong else Verdict.RETRY
    if status in (_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND):
        return Verdict.GONE
    passing = status >= _SERVER or status in (_TIMEOUT, _TOO_MANY)
    return Verdict.RETRY if passing else Verdict.REFUSED


def retry_after(error: BaseException) -> float | None:
    """The seconds to wait if it is a rate limit that says so, else None."""
    given = getattr(error, "retry_after", None)
    if isinstance(given, (int, float)) and given >= 0:
        return float(given)
    if getattr(error, "status", None) != _TOO_MANY:
        return None
    headers = cast("Any", getattr(getattr(error, "response", None), "headers", None))
    try:
        return max(float(headers.get("Retry-After", "")), 0.0) if headers else None
    except ValueError:
        return None
