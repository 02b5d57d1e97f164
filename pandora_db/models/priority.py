"""The priorities that have a name; any other int between the limits will do as well."""

from __future__ import annotations

from enum import IntEnum


class Priority(IntEnum):
    """Which of the jobs that wait goes first: the higher one."""

    LOW = -10
    NORMAL = 0
    HIGH = 10
