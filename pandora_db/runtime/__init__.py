"""The runtime: handlers for the stages of a pipeline, and what runs them.

Nothing here is imported by `import pandora_db`.
"""

from __future__ import annotations

from pandora_db.runtime.blocking import run_blocking, stop_requested
from pandora_db.runtime.outcomes import Cancelled, Done, Fail, Outcome, Snooze
from pandora_db.runtime.process import ProcessResult, run_process

__all__ = [
    "Cancelled",
    "Done",
    "Fail",
    "Outcome",
    "ProcessResult",
    "Snooze",
    "run_blocking",
    "run_process",
    "stop_requested",
]
