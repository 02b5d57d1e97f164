"""The journal of a storm: every intent and every acknowledgement, kept outside the database.

A process writes its own file, a line of JSON at a time, and each line is on disk before the call
goes on. `JournalledDb` is a handle that writes down its own calls, and so those of the runtime.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar

from pandora_db import Claim, Finish, Job, JobDb, LeaseLost, PandoraDbError
from pandora_db.store import operation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from uuid import UUID


class Call:
    """A call that is being made; `result` is what its acknowledgement will tell."""

    def __init__(self, journal: Journal, number: int) -> None:
        self.result: dict[str, object] = {}
        self._journal = journal
        self._number = number
        self._began = time.monotonic()

    def identified(self, operation: str) -> None:
        """It goes out under this operation id, by which the database names it."""
        self._journal.write("id", call=self._number, id=operation)

    def done(self) -> None:
        """It came out well."""
        took = time.monotonic() - self._began
        self._journal.write("ack", call=self._number, took=took, **self.result)

    def failed(self, error: BaseException) -> None:
        """It raised this."""
        facts = {"error": type(error).__name__, "took": time.monotonic() - self._began}
        if isinstance(error, LeaseLost):
            facts["reason"] = error.reason
        self._journal.write("error", call=self._number, **facts)


class Calls:
    """Several calls that are made as one, whose operation ids are made in their order."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._left = iter(calls)

    def identified(self, operation: str) -> None:
        """The next of them goes out under this operation id."""
        next(self._left).identified(operation)


_CALL: ContextVar[Call | Calls | None] = ContextVar("call", default=None)


class Journal:
    """The file of one process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._numbers = count(1)

    def close(self) -> None:
        os.close(self._file)

    def write(self, kind: str, **facts: object) -> None:
        """Append a line; it is on disk when this returns."""
        line = json.dumps({"kind": kind, "at": time.time(), **facts})
        os.write(self._file, line.encode() + b"\n")
        os.fdatasync(self._file)

    def intend(self, op: str, **facts: object) -> Call:
        """Write an intent."""
        number = next(self._numbers)
        self.write("intent", call=number, op=op, **facts)
        return Call(self, number)

    @contextmanager
    def call(self, op: str, **facts: object) -> Iterator[Call]:
        """Write an intent, and how it came out: no line at all when the process was killed."""
        call = self.intend(op, **facts)
        with under(call):
            try:
                yield call
            except BaseException as error:
                call.failed(error)
                raise
            call.done()


@contextmanager
def under(call: Call | Calls) -> Iterator[None]:
    """Whose the operation ids are that are made meanwhile."""
    reset = _CALL.set(call)
    try:
        yield
    finally:
        _CALL.reset(reset)


@contextmanager
def noting() -> Iterator[None]:
    """Meanwhile the operation ids that the library makes are written down before they are sent.

    To give each call an id of our own would be another way through the library: such a call may
    have been made before.
    """
    take = operation._take

    def noted() -> str:
        taken = take()
        if (call := _CALL.get()) is not None:
            call.identified(taken)
        return taken

    operation._take = noted
    try:
        yield
    finally:
        operation._take = take


def digest(state: object) -> str | None:
    """What tells one state from another."""
    if state is None:
        return None
    text = json.dumps(state, sort_keys=True, default=bytes.hex)
    return hashlib.sha256(text.encode()).hexdigest()


def _facts(claim: Claim) -> dict[str, object]:
    return {"job": claim.job_id, "token": claim.token, "stage": int(claim.stage)}


class JournalledDb(JobDb):
    """A handle whose calls are in `journal`, which is that of the whole process."""

    journal: ClassVar[Journal]

    async def insert_job(self, job: Job, **options: Any) -> int:
        with self._intent("insert_job", options) as call:
            job_id = await super().insert_job(job, **options)
            call.result["jobs"] = [job_id]
        return job_id

    async def insert_jobs(self, jobs: Iterable[Job], **options: Any) -> list[int]:
        given = list(jobs)
        with self._intent("insert_jobs", options, count=len(given)) as call:
            call.result["jobs"] = ids = await super().insert_jobs(given, **options)
        return ids

    async def claim_jobs(self, stage: Any, *, into: Any, **options: Any) -> list[Claim]:
        with self._intent("claim_jobs", options, owner=self.owner, stage=int(into)) as call:
            claims = await super().claim_jobs(stage, into=into, **options)
            call.result["claims"] = [[one.job_id, one.token] for one in claims]
        return claims

    async def finish_job(self, claim: Claim, stage: Any, **options: Any) -> Any:
        with self._under("finish_job", claim, options):
            return await super().finish_job(claim, stage, **options)

    async def finish_jobs(self, finishes: Iterable[Finish]) -> list[Any]:
        given = list(finishes)
        calls = [self.journal.intend("finish_job", **_facts(one.claim)) for one in given]
        try:
            with under(Calls(calls)):
                outcomes = await super().finish_jobs(given)
        except BaseException as error:
            for call in calls:
                call.failed(error)
            raise
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, PandoraDbError):
                call.failed(outcome)
            else:
                call.done()
        return outcomes

    async def fail_job(self, claim: Claim, error: Any, **options: Any) -> bool:
        with self._under("fail_job", claim, options):
            return await super().fail_job(claim, error, **options)

    async def snooze_job(self, claim: Claim, seconds: float, **options: Any) -> Any:
        with self._under("snooze_job", claim, options):
            return await super().snooze_job(claim, seconds, **options)

    async def release_job(self, claim: Claim, **options: Any) -> Any:
        with self._under("release_job", claim, options):
            return await super().release_job(claim, **options)

    async def update_job(self, job_id: Any, **changes: Any) -> None:
        with self._under("update_job", job_id, {}):
            await super().update_job(job_id, **changes)

    async def save_checkpoint(self, claim: Claim, state: object, **options: Any) -> None:
        with self._under("save_checkpoint", claim, {}, sha=digest(state)):
            await super().save_checkpoint(claim, state, **options)

    async def load_checkpoint(self, job_id: Any, **options: Any) -> Any:
        with self._under("load_checkpoint", job_id, {}) as call:
            state = await super().load_checkpoint(job_id, **options)
            call.result["sha"] = digest(state)
        return state

    async def recover(self, **options: Any) -> Any:
        with self._intent("recover", {}):
            return await super().recover(**options)

    async def cancel_job(self, job_id: int, **options: Any) -> bool:
        with self._intent("cancel_job", options, job=job_id) as call:
            call.result["at_once"] = done = await super().cancel_job(job_id, **options)
        return done

    async def pause_job(self, job_id: int, **options: Any) -> bool:
        with self._intent("pause_job", options, job=job_id):
            return await super().pause_job(job_id, **options)

    async def resume_job(self, job_id: int, **options: Any) -> None:
        with self._intent("resume_job", options, job=job_id):
            await super().resume_job(job_id, **options)

    @contextmanager
    def _under(
        self, op: str, claim: Claim, options: dict[str, Any], **facts: object
    ) -> Iterator[Call]:
        with self._intent(op, options, **facts, **_facts(claim)) as call:
            yield call

    @contextmanager
    def _intent(self, op: str, options: dict[str, Any], **facts: object) -> Iterator[Call]:
        given: UUID | None = options.get("operation_id")
        with self.journal.call(op, **facts) as call:
            if given is not None:
                call.identified(str(given))
            yield call
