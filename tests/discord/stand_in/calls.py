"""What was asked of the stand-in, and the refusals it knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Call:
    """One request: when (monotonic), what, and how it was answered."""

    at: float
    method: str
    path: str
    status: int
    body: Any = None
    code: int = 0

    @property
    def is_edit(self) -> bool:
        """Whether it edits a message of a channel (not by the token of an interaction)."""
        return (
            self.method == "PATCH"
            and self.path.startswith("/channels/")
            and "/messages/" in self.path
        )

    @property
    def message_id(self) -> int:
        """The message that the path names; 0 for none."""
        last = self.path.rsplit("/", 1)[-1]
        return int(last) if "/messages/" in self.path and last.isdecimal() else 0


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(
        self, status: int, code: int, message: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after


def unknown(what: str, code: int) -> Refusal:
    return Refusal(404, code, f"Unknown {what}")
