"""Taking jobs back from workers that were lost (P6)."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

from pandora_db.codecs.checks import check_text
from pandora_db.codecs.claim import check_into, check_seconds
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import refuse
from pandora_db.models.limits import MAX_KEY
from pandora_db.models.recovery import RecoveredJob, RecoveryReport
from pandora_db.models.stage import MEMBERS, StageCode
from pandora_db.store.operation import operation
from pandora_db.store.repository import Repository

Unowned = Literal["requeue", "fail"]
_Lease = tuple[Any, ...]
_AT_ONCE = 500
_SHOWN = 1_000
_PAUSE = 0.25
_PATIENCE, _LOCKED = 2.0, 0.05  # so long, and how often, locked jobs are looked at again


class Recovery(Repository):
    """Part of `Store`."""

    async def recover(self, *, unowned: Unowned | None = None, wait: float = 0.0) -> RecoveryReport:
        """Take back the jobs whose worker has shown no sign of life for as long as its lease.

        Each waits again where it was claimed, with its checkpoint; one whose attempts are used up,
        or whose policy says so, fails as interrupted. Every handle does this by itself every
        `sweep` seconds; any number of processes may at once. No job is touched whose lease is
        renewed; one that somebody keeps locked for seconds is left to the next call.

        Args:
            unowned: what becomes of jobs at work that never had a lease (libpndb's, or put there by
                a plain `update_stage`): "requeue", or "fail" as in libpndb's restart pattern. Only
                for when nobody works on them any more. None leaves them alone and reports them.
            wait: seconds to wait for leases that are running now and are not renewed meanwhile:
                those of a process that was killed a moment ago.

        Raises:
            InvalidInput: another value of `unowned` or `wait`.
        """
        if unowned not in (None, "requeue", "fail"):
            refuse("unowned", unowned, "'requeue', 'fail' or None")
        seconds = check_seconds(wait, "wait")
        watched = await self._leases_running() if seconds else set[_Lease]()
        jobs = await self._recover("lapsed")
        if watched:
            jobs += await self._recover_within(seconds, watched)
        if unowned is not None:
            jobs += await self._recover("unowned", fail=unowned == "fail")
        left = await self._session.read("find_unowned", {"limit": _SHOWN})
        return RecoveryReport(tuple(jobs), tuple(job_id for (job_id,) in left))

    async def set_recovery_policy(
        self, action: Unowned, *, stage: StageCode | int | None = None, name: str | None = None
    ) -> None:
        """Say what becomes of the jobs of a stage, or of a name, whose worker was lost.

        Kept in the database, where every process that recovers reads it. A name goes before a
        stage; without a policy jobs are queued again.

        Raises:
            InvalidInput: another action, not exactly one of `stage` and `name`, or a stage at which
                nobody works.
        """
        if action not in ("requeue", "fail"):
            refuse("action", action, "'requeue' or 'fail'")
        if (stage is None) == (name is None):
            raise InvalidInput("give a stage or a name, and not both", field="stage")
        if name is not None:
            args = {"scope": "name", "key": check_text(name, "name", MAX_KEY, least=1)}
        else:
            args = {"scope": "stage", "key": str(check_into(stage, "stage").value)}
        await self._session.take("set_recovery_policy", args | {"action": action})

    async def get_recovery_policies(self) -> dict[StageCode | int | str, Unowned]:
        """What `set_recovery_policy` has set, by stage or by name.

        A stage of a pipeline that this program does not define is its number.
        """
        rows = await self._session.read("get_recovery_policies", {})
        return {
            MEMBERS.get(int(key), int(key)) if scope == "stage" else key: action
            for scope, key, action in rows
        }

    async def has_lapsed(self) -> bool:
        """Whether there is a job that `recover` would take back; reads only."""
        return bool(await self._session.read("find_lapsed", {}))

    async def _recover(
        self, which: str, *, fail: bool = False, patience: float = _PATIENCE
    ) -> list[RecoveredJob]:
        """All that are there; locked ones are looked at again for `patience`, in seconds."""
        args: dict[str, Any] = {
            "limit": _AT_ONCE,
            "max_attempts": self._leases.settings.max_attempts,
            "fail": fail,
        }
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        jobs: list[RecoveredJob] = []
        while True:
            # A job may be lost once more between two turns: each is an operation of its own.
            args["operation_id"] = operation(None).id
            rows = await self._session.take("recover_jobs", args, frozenset({which}))
            jobs += map(RecoveredJob._make, rows)
            if len(rows) == _AT_ONCE:
                continue
            # A job that another process has locked was passed over. That may be taking it back at
            # this moment, and may die over it: then it is up to us.
            left = await self._session.read(f"find_{which}", {"limit": 1})
            if not left or loop.time() > until:
                return sorted(jobs)
            await asyncio.sleep(_LOCKED)

    async def _recover_within(self, seconds: float, watched: set[_Lease]) -> list[RecoveredJob]:
        """Those of `watched` that run out within that time without having been renewed."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        jobs: list[RecoveredJob] = []
        while watched and loop.time() < deadline:
            await asyncio.sleep(min(_PAUSE, max(0.0, deadline - loop.time())))
            watched &= await self._leases_running()  # before: what runs out meanwhile is ours too
            jobs += await self._recover("lapsed", patience=min(_PATIENCE, deadline - loop.time()))
        return jobs

    async def _leases_running(self) -> set[_Lease]:
        """Without those that have run out: what is locked then is left to the next call."""
        return {tuple(row) for row in await self._session.read("find_running_leases", {})}
