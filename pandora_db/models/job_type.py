"""Job types: which pipeline a job belongs to."""

from __future__ import annotations

from enum import IntEnum

from pandora_db.errors import UnknownCode


class JobType(IntEnum):
    """The pipelines (seed: libpndb); stored in `jobs.job_type`."""

    ENCODE = 1

    @classmethod
    def _missing_(cls, value: object) -> JobType:
        raise UnknownCode("job_type", value, KNOWN_JOB_TYPES)


KNOWN_JOB_TYPES = ", ".join(f"{member.value} {member.name}" for member in JobType)
