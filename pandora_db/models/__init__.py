"""What callers hand in and get back."""

from __future__ import annotations

from pandora_db.models.claim import Backoff, Claim, Finish, Limits
from pandora_db.models.event import EventKind, JobEvent
from pandora_db.models.health import Health, PoolUse
from pandora_db.models.job import Job
from pandora_db.models.job_metadata import JobMetadata
from pandora_db.models.job_row import JobRow
from pandora_db.models.job_type import JobType
from pandora_db.models.log import JobLog, LogLine
from pandora_db.models.pipeline import Pipeline, define_pipeline
from pandora_db.models.preset import Concat, Preset
from pandora_db.models.priority import Priority
from pandora_db.models.recovery import RecoveredJob, RecoveryReport
from pandora_db.models.schema import SchemaDifference, SchemaPlan, SchemaStep
from pandora_db.models.stage import Stage, StageCode, StageInfo, StageKind, TaskStage
from pandora_db.models.status import Hold, JobStatus

__all__ = [
    "Backoff",
    "Claim",
    "Concat",
    "EventKind",
    "Finish",
    "Health",
    "Hold",
    "Job",
    "JobEvent",
    "JobLog",
    "JobMetadata",
    "JobRow",
    "JobStatus",
    "JobType",
    "Limits",
    "LogLine",
    "Pipeline",
    "PoolUse",
    "Preset",
    "Priority",
    "RecoveredJob",
    "RecoveryReport",
    "SchemaDifference",
    "SchemaPlan",
    "SchemaStep",
    "Stage",
    "StageCode",
    "StageInfo",
    "StageKind",
    "TaskStage",
    "define_pipeline",
]
