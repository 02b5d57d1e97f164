"""Log lines: what the handlers of a job said, the newest of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any, cast
from uuid import UUID

from pandora_db.codecs.checks import check_id, check_int, check_limit, clean_error
from pandora_db.codecs.claim import check_seconds
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import refuse
from pandora_db.models.claim import Claim
from pandora_db.models.limits import MAX_ID, MAX_LOG, MAX_LOGS, MAX_SKIPPED
from pandora_db.models.log import MAX_LEVEL, JobLog, LogLine
from pandora_db.store.held_claim import check_claim
from pandora_db.store.operation import operation
from pandora_db.store.refusals import why_refused
from pandora_db.store.repository import Repository

_EXPECTED = "several LogLine(message, level, age)"


class Logs(Repository):
    """Part of `Store`."""

    async def append_logs(
        self,
        claim: Claim,
        lines: Iterable[LogLine],
        *,
        skipped: int = 0,
        operation_id: UUID | None = None,
    ) -> int:
        """Keep what was said about a job; of each job the newest 1,000 lines are kept.

        They outlive the end of the job and its archiving, and go when it is deleted. However many
        append to a job at once, each line is kept and numbered.

        Args:
            claim: the claim under which the work is done.
            lines: what was said, oldest first, at most 1,000; each is cut at 4,096 characters.
            skipped: how many lines before these were let go: that many numbers are left out.
            operation_id: repeats an earlier call, which is known as long as its last line is kept.

        Returns:
            The number of the last of these lines; of the last one so far when there are none.

        Raises:
            LeaseLost: the claim no longer counts; nothing was written.
            InvalidInput: a bad argument.
        """
        held = check_claim(claim)
        call = operation(operation_id)
        self._leases.check(held)
        listed = _listed(lines)
        args: dict[str, Any] = {
            "job_id": held.job_id, "token": held.token, "lines": json.dumps(listed),
            "count": len(listed), "skipped": check_int(skipped, "skipped", 0, MAX_SKIPPED),
            "most": MAX_LOGS, "operation_id": call.id,
        }  # fmt: skip
        last: int
        if not listed:
            ((last,),) = await self._session.read("last_log", args)
            return last
        row = await self._session.write("append_logs", args, held.job_id, repeated=call.repeated)
        if row is not None:
            _, last = row
            return last
        if done := await self._session.find_outcome("find_logs", args):
            ((last,),) = done
            return last
        with self._leases.noting_loss(held):
            raise await why_refused(self._session, held)

    async def logs(self, job_id: int, *, after: int = 0, limit: int = 100) -> list[JobLog]:
        """What the handlers of a job said, oldest first.

        Args:
            job_id: the job; one that is not there has said nothing.
            after: only lines with a higher number: the `seq` of the last one of the page before.
            limit: how many at most, 1 … 100,000.

        Raises:
            InvalidInput: a bad argument.
        """
        args = {
            "job_id": check_id(job_id),
            "after": check_int(after, "after", 0, MAX_ID),
            "limit": check_limit(limit),
        }
        return [JobLog(job_id, *row) for row in await self._session.read("logs", args)]


def _listed(lines: object) -> list[tuple[int, int, str]]:
    if isinstance(lines, str | bytes) or not isinstance(lines, Iterable):
        refuse("lines", lines, _EXPECTED)
    given = cast("Iterable[object]", lines)
    listed = [_line(one) for one in islice(given, MAX_LOGS + 1)]
    if len(listed) > MAX_LOGS:
        raise InvalidInput(
            f"lines has more than {MAX_LOGS:,} of them, which is how many are kept of a job; "
            "give the newest",
            field="lines",
        )
    return listed


def _line(value: object) -> tuple[int, int, str]:
    """Milliseconds of age, level and text."""
    if not isinstance(value, LogLine):
        refuse("lines", value, _EXPECTED)
    age = check_seconds(cast("object", value.age), "age")
    level = check_int(value.level, "level", 0, MAX_LEVEL)
    return round(age * 1000), level, clean_error(value.message, "message", MAX_LOG)
