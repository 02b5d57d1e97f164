"""Calls that say the same in most of their arguments: what they share is sent once.

asyncpg writes an array element by element, and the server makes rows of them again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pandora_db.drivers.base import Args
from pandora_db.drivers.postgres.arrays import as_columns
from pandora_db.sqlfiles import Catalogue, binder

_ALIKE = {"insert_job": "insert_jobs_alike", "end_claim": "end_claims_alike"}
_ARRAY = re.compile(r"\$(\d+)::\w+\[\]")


class Alike:
    """The variant of a `:batch` query whose arrays are few; its other parameters hold for all."""

    def __init__(self, queries: Catalogue, name: str) -> None:
        query = queries.get(_ALIKE[name])
        (statement,) = query.statements
        names = statement.parameters
        each = [names[int(number) - 1] for number in _ARRAY.findall(statement.text)]
        same = [one for one in names if one not in each]
        absent = sorted(queries.get(name).parameters - query.parameters)
        self.text = statement.text
        self._each = each
        self._row = binder(each)
        self._way = binder([*same, *absent])
        self._nothing = (None,) * len(absent)
        self._bind = statement.bind

    def columns(self, calls: Sequence[Args]) -> Sequence[Any] | None:
        """What to send for all of them; None when one goes another way, or says more."""
        way = self._way(calls[0])
        if way[-len(self._nothing) :] != self._nothing:
            return None
        if any(self._way(args) != way for args in calls):
            return None
        columns = as_columns(list(map(self._row, calls)))
        return self._bind({**calls[0], **dict(zip(self._each, columns, strict=True))})


def alike(queries: Catalogue, name: str) -> Alike | None:
    """The variant for the query of that name, if there is one."""
    return Alike(queries, name) if name in _ALIKE else None
