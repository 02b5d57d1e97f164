"""Calls that agree in some of their arguments: those are sent once, as plain parameters.

An array costs asyncpg and the server something for each element. A variant of a query has arrays
only for what differs from call to call, and lacks what hardly anybody says.
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
    """A variant of a `:batch` query: for calls that agree in all that is no array there.

    They must say nothing in what it lacks.
    """

    def __init__(self, queries: Catalogue, name: str) -> None:
        query = queries.get(_ALIKE[name])
        (statement,) = query.statements
        names = statement.parameters
        arrays = [names[int(number) - 1] for number in _ARRAY.findall(statement.text)]
        self.text = statement.text
        self._arrays = arrays
        self._differing = binder(arrays)
        self._shared = binder([one for one in names if one not in arrays])
        lacking = sorted(queries.get(name).parameters - query.parameters)
        self._lacking = binder(lacking)
        self._nothing = (None,) * len(lacking)
        self._bind = statement.bind

    def columns(self, calls: Sequence[Args]) -> Sequence[Any] | None:
        """What to send for all of them; None when they do not agree, or one says more."""
        shared = self._shared(calls[0])
        try:
            for args in calls:
                if self._shared(args) != shared or self._lacking(args) != self._nothing:
                    return None
        except Exception:  # noqa: BLE001 - a value past its checks: asyncpg will refuse it by name
            return None
        columns = as_columns(list(map(self._differing, calls)))
        return self._bind({**calls[0], **dict(zip(self._arrays, columns, strict=True))})


def alike(queries: Catalogue, name: str) -> Alike | None:
    """The variant for the query of that name, if there is one."""
    return Alike(queries, name) if name in _ALIKE else None
