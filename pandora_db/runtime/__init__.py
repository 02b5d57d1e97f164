"""The runtime: handlers for the stages of a pipeline, and what runs them.

    pipeline.stage ─ Work ─┐
                           Crew ─ Worker (one for each stage) ─ Attempt (one for each claim)
                                    │ Wake: when to look          │ JobContext ─ the handler
                                    └ claim_jobs, finish_jobs     └ endings: what its outcome means

Nothing here is imported by `import pandora_db`.
"""

from __future__ import annotations

from pandora_db.runtime.blocking import run_blocking, stop_requested
from pandora_db.runtime.context import JobContext
from pandora_db.runtime.crew import Crew
from pandora_db.runtime.definition import JobDefinition
from pandora_db.runtime.handle import JobHandle
from pandora_db.runtime.job_info import JobInfo
from pandora_db.runtime.manager import JobManager
from pandora_db.runtime.outcomes import Cancelled, Done, Fail, Outcome, Snooze
from pandora_db.runtime.outputs import (
    FileCopyOutput,
    IndexedOutput,
    JobOutput,
    MediaProcessedOutput,
)
from pandora_db.runtime.pipeline import Pipeline
from pandora_db.runtime.process import ProcessResult, run_process
from pandora_db.runtime.progress import Progress
from pandora_db.runtime.registry import REGISTRY, Registry, job
from pandora_db.runtime.work import Handler

__all__ = [
    "REGISTRY",
    "Cancelled",
    "Crew",
    "Done",
    "Fail",
    "FileCopyOutput",
    "Handler",
    "IndexedOutput",
    "JobContext",
    "JobDefinition",
    "JobHandle",
    "JobInfo",
    "JobManager",
    "JobOutput",
    "MediaProcessedOutput",
    "Outcome",
    "Pipeline",
    "ProcessResult",
    "Progress",
    "Registry",
    "Snooze",
    "job",
    "run_blocking",
    "run_process",
    "stop_requested",
]
