"""Log lines: what the handlers of a job said, the newest of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, cast

from pandora_db.codecs.checks import check_id, check_int, check_limit, clean_error
from pandora_db.codecs.claim import check_seconds
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import refuse
from pandora_db.models.claim import Claim
from pandora_db.models.limits import MAX_ID, MAX_LOG, MAX_LOGS
from pandora_db.models.log import MAX_LEVEL, JobLog, LogLine
from pandora_db.store.held_claim import check_claim
from pandora_db.store.refusals import why_refused
from pandora_db.store.repository import Repository


class Logs(Repository):
    """Part of `Store`."""

    async def append_logs(
        self, claim: Claim, lines: Iterable[LogLine], *, after: int | None = None
    ) -> int:
        """Keep what was said about a job; of each job the newest 1,000 lines are kept.

        They outlive the end of the job and its archiving, and go when it is deleted.

        Args:
            claim: the claim under which the work is done.
            lines: what was said, oldest first, at most 1,000; each is cut at 4,096 characters.
            after: the number of the last line before these, as the last call answered; None looks
                for it. A call that is repeated with it keeps nothing twice.

        Returns:
            The number of the last of these lines.

        Raises:
            LeaseLost: the claim no longer counts; nothing was written.
            InvalidInput: a bad argument.
        """
        held = check_claim(claim)
        self._leases.check(held)
        listed = [_line(one) for one in lines]
        if len(listed) > MAX_LOGS:
            raise InvalidInput(
                f"{len(listed)} lines are too many; at most {MAX_LOGS} are kept", field="lines"
            )
        if after is None:
            ((after,),) = await self._session.read("last_log", {"job_id": held.job_id})
        last = check_int(after, "after", 0, MAX_ID - MAX_LOGS) + len(listed)
        if not listed:
            return last
        args: dict[str, Any] = {
            "job_id": held.job_id, "token": held.token, "after": after,
            "lines": json.dumps(listed), "oldest": last - MAX_LOGS,
        }  # fmt: skip
        with self._leases.noting_loss(held):
            if await self._session.write("append_logs", args, held.job_id) is None:
                raise await why_refused(self._session, held)
        return last

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


def _line(value: object) -> tuple[int, int, str]:
    """Milliseconds of age, level and text."""
    if not isinstance(value, LogLine):
        refuse("lines", value, "several LogLine(message, level, age)")
    age = check_seconds(cast("object", value.age), "age")
    level = check_int(value.level, "level", 0, MAX_LEVEL)
    return round(age * 1000), level, clean_error(value.message, "message", MAX_LOG)
