"""Job types that callers give."""

from __future__ import annotations

from pandora_db.errors import UnknownCode
from pandora_db.models.checks import refuse
from pandora_db.models.job_type import JobType, known_job_types


def check_job_type(value: object, field: str = "job_type") -> JobType:
    """The job type that a caller gave, as a `JobType` or as the int that is one.

    Raises:
        UnknownCode: an int that no job type has.
        InvalidInput: anything else.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(field, value, "a JobType, such as JobType.ENCODE, or its number")
    try:
        return JobType(value)
    except UnknownCode as error:
        raise UnknownCode(field, int(value), known_job_types()) from error
