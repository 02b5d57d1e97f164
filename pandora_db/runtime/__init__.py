"""The runtime: handlers for the stages of a pipeline, and what runs them.

    pipeline.stage ─ Work ─┐
                           Crew ─ Worker (one for each stage) ─ Attempt (one for each claim)
                                    │ Bell: when to look          │ JobContext ─ the handler
                                    └ claim_jobs                  └ endings: what its outcome means

Nothing here is imported by `import pandora_db`.
"""

from __future__ import annotations

from pandora_db.runtime.blocking import run_blocking, stop_requested
from pandora_db.runtime.context import JobContext
from pandora_db.runtime.crew import Crew
from pandora_db.runtime.outcomes import Cancelled, Done, Fail, Outcome, Snooze
from pandora_db.runtime.pipeline import Pipeline
from pandora_db.runtime.process import ProcessResult, run_process
from pandora_db.runtime.progress import Progress
from pandora_db.runtime.work import Handler

__all__ = [
    "Cancelled",
    "Crew",
    "Done",
    "Fail",
    "Handler",
    "JobContext",
    "Outcome",
    "Pipeline",
    "ProcessResult",
    "Progress",
    "Snooze",
    "run_blocking",
    "run_process",
    "stop_requested",
]
