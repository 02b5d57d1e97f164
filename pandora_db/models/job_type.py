"""Job types: which pipeline a job belongs to."""

from __future__ import annotations

from enum import IntEnum

from pandora_db.errors import UnknownCode


class JobType(IntEnum):
    """The pipelines (seed: libpndb); stored in `jobs.job_type`.

    `JobType(200)` is the one that `define_pipeline` was told; an unknown number is `UnknownCode`.
    """

    ENCODE = 1
    TASK = 100

    @classmethod
    def _missing_(cls, value: object) -> JobType:
        found = DEFINED_TYPES.get(value)
        if found is None:
            raise UnknownCode("job_type", value, known_job_types())
        return found


DEFINED_TYPES: dict[object, JobType] = {}
"""Those of pipelines that users defined, by number."""


def new_job_type(number: int, name: str) -> JobType:
    """A job type beside those of this file, not yet known to `JobType(number)`."""
    # An enum with members takes no more; `_missing_` may answer with what is not listed.
    member = int.__new__(JobType, number)
    member._name_ = name
    member._value_ = number
    return member


def known_job_types() -> str:
    """Numbers and names, for an error message."""
    known = (*JobType, *DEFINED_TYPES.values())
    return ", ".join(f"{member.value} {member.name}" for member in known)
