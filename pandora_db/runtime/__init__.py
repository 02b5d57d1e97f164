"""The runtime: handlers for the stages of a pipeline, and what runs them.

Nothing here is imported by `import pandora_db`.
"""

from __future__ import annotations

from pandora_db.runtime.outcomes import Cancelled, Done, Fail, Outcome, Snooze

__all__ = ["Cancelled", "Done", "Fail", "Outcome", "Snooze"]
