"""Telling of what fails again and again: once when it begins, and once when it is over."""

from __future__ import annotations

import logging
import time


class Outage:
    """Knows whether the last try failed, and since when they do."""

    def __init__(self) -> None:
        self._since: float | None = None

    def failed(self, level: int = logging.WARNING) -> int:
        """Note that a try failed; at which level to say so: `level` at first, then DEBUG."""
        if self._since is not None:
            return logging.DEBUG
        self._since = time.monotonic()
        return level

    def over(self) -> float | None:
        """Note that a try did not fail; for how many seconds they had, None for not at all."""
        since, self._since = self._since, None
        return None if since is None else time.monotonic() - since
