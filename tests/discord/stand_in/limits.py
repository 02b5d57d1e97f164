"""Rate limits: buckets of a fixed window, as Discord's headers describe them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.discord.stand_in.calls import Refusal


@dataclass(slots=True)
class Bucket:
    """At most `limit` requests within `per` seconds from the first."""

    name: str
    limit: int = 0
    per: float = 0.0
    used: int = 0
    until: float = 0.0

    def take(self) -> float | None:
        """Count a request; the seconds to wait when there are too many."""
        now = time.monotonic()
        if now >= self.until:
            self.used, self.until = 0, now + self.per
        if self.used >= self.limit:
            return self.until - now
        self.used += 1
        return None

    def count(self, headers: dict[str, str]) -> None:
        """Count a request and say so in the headers; raises `Refusal` when there are too many."""
        seconds = self.take()
        headers.update(self.headers())
        if seconds is not None:
            raise Refusal(429, 0, "You are being rate limited.", retry_after=seconds)

    def headers(self) -> dict[str, str]:
        left = max(self.until - time.monotonic(), 0.0)
        return {
            "X-RateLimit-Bucket": self.name,
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(self.limit - self.used, 0)),
            "X-RateLimit-Reset": f"{time.time() + left:.3f}",
            "X-RateLimit-Reset-After": f"{left:.3f}",
        }
