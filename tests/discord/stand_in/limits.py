"""Rate limits: buckets of a fixed window, as Discord's headers describe them."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """At most `limit` requests within `per` seconds from the first."""

    name: str
    limit: int
    per: float
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

    def headers(self) -> dict[str, str]:
        left = max(self.until - time.monotonic(), 0.0)
        return {
            "X-RateLimit-Bucket": self.name,
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(max(self.limit - self.used, 0)),
            "X-RateLimit-Reset": f"{time.time() + left:.3f}",
            "X-RateLimit-Reset-After": f"{left:.3f}",
        }
