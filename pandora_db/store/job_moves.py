"""Moving jobs along, changing what may change, and taking them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypedDict, Unpack
from uuid import UUID

from pandora_db.codecs.checks import (
    check_id,
    check_path,
    check_priority,
    check_progress,
    check_text,
    clean_error,
)
from pandora_db.codecs.json_text import Json, encode_json
from pandora_db.codecs.stage import Stage, StageInfo, StageKind, check_stage, live_range, stage_info
from pandora_db.errors import InvalidInput, InvalidTransition, NotFound, UnknownCode
from pandora_db.models.event import EventKind
from pandora_db.models.limits import MAX_KEY, MAX_PATH
from pandora_db.models.status import Hold
from pandora_db.store.operation import Operation, operation
from pandora_db.store.repository import Repository


class JobChanges(TypedDict, total=False):
    """The free columns that `update_job` takes; None clears one."""

    author_id: int | None
    guild_id: int | None
    message_id: int
    channel_id: int
    priority: int
    directory: str
    progress: float | None
    progress_data: Json
    current_step: str | None
    output_kind: str | None
    output: Json
    output_file: str | None
    error: str | BaseException | None
    config: dict[str, Json] | None


class _State(NamedTuple):
    """What `find_state` answers; `done` is the kind of event that this operation left, if any."""

    ready: int | None
    archived: bool
    hold: int
    error: str | None
    event_seq: int
    done: int | None


class JobMoves(Repository):
    """Part of `Store`."""

    async def update_stage(
        self, job_id: int, stage: Stage | int, *, operation_id: UUID | None = None
    ) -> None:
        """Move a job to a later stage of its pipeline (seed: libpndb).

        Jumping forward is allowed, leaving a terminal stage or moving back is not. The call
        overrides: a worker that holds a lease on the job loses it. Staying is no change.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job has ended, or is further already.
            UnknownCode: no stage has that number.
        """
        check_id(job_id)
        wanted = check_stage(stage)
        lowest, highest = live_range(wanted)
        call = operation(operation_id)
        args = {
            "job_id": job_id,
            "stage": wanted.value,
            "lowest": lowest,
            "highest": highest,
            "operation_id": call.id,
        }
        repeated = call.repeated
        while await self._session.write("update_stage", args, job_id, repeated=repeated) is None:
            state = await self._state(job_id, call, tried=True)
            if state.done is not None or state.ready == wanted:
                return
            if state.ready is None or not lowest <= state.ready <= highest:
                _refuse_move(job_id, state.ready, wanted)

    async def archive_job(self, job_id: int, *, operation_id: UUID | None = None) -> None:
        """Take a job out of the active ones; it stays in the log (seed: libpndb).

        Works at any stage. The first call sets `completed_at`, later ones change nothing.

        Raises:
            NotFound: there is no such job.
        """
        check_id(job_id)
        call = operation(operation_id)
        args = {"job_id": job_id, "operation_id": call.id}
        if await self._session.write("archive_job", args, job_id, repeated=call.repeated) is None:
            await self._state(job_id, call, tried=True)

    async def update_job(
        self, job_id: int, *, operation_id: UUID | None = None, **changes: Unpack[JobChanges]
    ) -> None:
        """Set free columns of a job; what is not named stays, None clears.

        `progress` is 0 … 1; `progress_data`, `output` and `config` are JSON values; `error` is text
        or an exception, cut at 16,384 characters. A change is an event of the job, except of
        progress, `progress_data` and `current_step` alone.

        Raises:
            NotFound: there is no such job.
            InvalidInput: no column was named, an unknown one, or a value that is refused.
        """
        check_id(job_id)
        call = operation(operation_id)
        args = {"job_id": job_id, "operation_id": call.id, **_change_args(dict(changes))}
        if await self._session.write("update_job", args, job_id, repeated=call.repeated) is None:
            await self._state(job_id, call, tried=True)

    async def retry_job(self, job_id: int, *, operation_id: UUID | None = None) -> None:
        """Take a job that has ended back to its first stage, out of the archive, for a new attempt.

        Its error moves to the history.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job has not ended.
            UnknownCode: nobody knows its stage.
        """
        call = operation(operation_id)
        tried = False
        while True:
            state = await self._state(check_id(job_id), call, tried=tried)
            tried = True
            if state.done is not None:
                return
            info = _known(state)
            if not info.kind.terminal:
                raise InvalidTransition(
                    job_id,
                    info.name,
                    stage_info(Stage.QUEUED).name,
                    "it has not ended; requeue_job() takes it back",
                )
            if await self._move(
                job_id, call, state, EventKind.RETRIED, stage=Stage.QUEUED, detail=state.error
            ):
                return

    async def requeue_job(self, job_id: int, *, operation_id: UUID | None = None) -> None:
        """Take a job that has not ended back to its first stage; whoever works on it loses it.

        A job whose stage nobody knows is taken back too. At the first stage nothing changes.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job has ended.
        """
        call = operation(operation_id)
        tried = False
        while True:
            state = await self._state(check_id(job_id), call, tried=tried)
            tried = True
            untouched = state.ready == Stage.QUEUED and not state.archived and not state.hold
            if state.done is not None or untouched:
                return
            try:
                info = _known(state)
            except UnknownCode:
                info = None
            if info is not None and info.kind.terminal:
                raise InvalidTransition(
                    job_id,
                    info.name,
                    stage_info(Stage.QUEUED).name,
                    "it has ended; retry_job() begins it again",
                )
            if await self._move(
                job_id, call, state, EventKind.REQUEUED, stage=Stage.QUEUED, error=state.error
            ):
                return

    async def cancel_job(self, job_id: int, *, operation_id: UUID | None = None) -> bool:
        """Cancel a job: at once while it waits, by request while a worker has it.

        Returns:
            True when the job is cancelled (and archived), False when its worker was asked to stop.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job has ended otherwise.
            UnknownCode: nobody knows its stage.
        """
        call = operation(operation_id)
        tried = False
        while True:
            state = await self._state(check_id(job_id), call, tried=tried)
            tried = True
            if state.done is not None:
                return state.done == EventKind.CANCELLED
            info = _known(state)
            if info.kind in (StageKind.DRAFT, StageKind.WAITING):
                moved = await self._move(
                    job_id, call, state, EventKind.CANCELLED, stage=Stage.CANCELLED, archived=True,
                    error=state.error,
                )  # fmt: skip
                if moved:
                    return True
            elif info.kind is StageKind.WORKING:
                if state.hold == Hold.CANCEL:
                    return False
                moved = await self._move(
                    job_id, call, state, EventKind.CANCEL_REQUESTED, stage=info.code,
                    archived=state.archived, hold=Hold.CANCEL, error=state.error,
                )  # fmt: skip
                if moved:
                    return False
            elif info.code == Stage.CANCELLED:
                return True
            else:
                _refuse_move(job_id, info.code, Stage.CANCELLED)

    async def decline_job(
        self, job_id: int, *, reason: str | None = None, operation_id: UUID | None = None
    ) -> None:
        """Refuse a job that waits; it is archived, with the reason as its error and in its history.

        Raises:
            NotFound: there is no such job.
            InvalidTransition: the job is being worked on, or has ended.
            UnknownCode: nobody knows its stage.
        """
        text = None if reason is None else clean_error(reason, "reason")
        call = operation(operation_id)
        tried = False
        while True:
            state = await self._state(check_id(job_id), call, tried=tried)
            tried = True
            if state.done is not None or state.ready == Stage.DECLINED:
                return
            info = _known(state)
            if info.kind is StageKind.WORKING:
                raise InvalidTransition(
                    job_id,
                    info.name,
                    stage_info(Stage.DECLINED).name,
                    "a worker has it; cancel_job() asks it to stop",
                )
            if info.kind.terminal:
                _refuse_move(job_id, info.code, Stage.DECLINED)
            if await self._move(
                job_id, call, state, EventKind.DECLINED, stage=Stage.DECLINED, archived=True,
                error=text, detail=text,
            ):  # fmt: skip
                return

    async def delete_job(self, job_id: int, *, operation_id: UUID | None = None) -> None:
        """Delete a job and its history for good; `history()` still tells that and when it was.

        Raises:
            NotFound: there is no such job.
        """
        call = operation(operation_id)
        args = {"job_id": check_id(job_id), "operation_id": call.id}
        # One key for all: a statement signs the deletions that it makes with one operation.
        row = await self._session.write("delete_job", args, "delete_job", repeated=call.repeated)
        if row is None and not await self._session.find_outcome("find_deletion", args):
            raise NotFound(job_id)

    async def _state(self, job_id: int, call: Operation, *, tried: bool) -> _State:
        """How the job is now; `tried`: after a write of this call that may have been done."""
        read = self._session.find_outcome if tried else self._session.read
        rows = await read("find_state", {"job_id": job_id, "operation_id": call.id})
        if not rows:
            raise NotFound(job_id)
        return _State._make(rows[0])

    async def _move(
        self,
        job_id: int,
        call: Operation,
        state: _State,
        kind: EventKind,
        *,
        stage: int,
        archived: bool = False,
        hold: Hold = Hold.NONE,
        error: str | None = None,
        detail: str | None = None,
    ) -> bool:
        """Make the move if the job is still as `state` says; False when it is not."""
        args = {
            "job_id": job_id,
            "event_seq": state.event_seq,
            "stage": int(stage),
            "archived": archived,
            "hold": hold.value,
            "error": error,
            "kind": kind.value,
            "detail": detail,
            "operation_id": call.id,
        }
        return await self._session.write("move_job", args, job_id) is not None


def _known(state: _State) -> StageInfo:
    if state.ready is None:
        raise UnknownCode("stage", None, "none of the stages")
    return stage_info(state.ready)


def _refuse_move(job_id: int, current: int | None, wanted: Stage) -> NoReturn:
    if current is None:
        raise UnknownCode("stage", current, "none of the stages")
    info = stage_info(current)
    advice = (
        "it has ended; retry_job() begins it again"
        if info.kind.terminal
        else "a job moves forward; requeue_job() takes it back to its first stage"
    )
    raise InvalidTransition(job_id, info.name, stage_info(wanted).name, advice)


# In the order of the bits of `fields`, which both dialects' update_job test.
_CHECKS: dict[str, Callable[[Any, str], Any]] = {
    "author_id": check_id,
    "guild_id": check_id,
    "message_id": check_id,
    "channel_id": check_id,
    "priority": check_priority,
    "directory": check_path,
    "progress": check_progress,
    "progress_data": encode_json,
    "current_step": lambda value, field: check_text(value, field, MAX_KEY),
    "output_kind": lambda value, field: check_text(value, field, MAX_KEY),
    "output": encode_json,
    "output_file": lambda value, field: check_text(value, field, MAX_PATH),
    "error": clean_error,
    "config": encode_json,
}
_NEVER_NULL = frozenset({"message_id", "channel_id", "priority", "directory"})
_PROGRESS = frozenset({"progress", "progress_data", "current_step"})


def _change_args(changes: dict[str, Any]) -> dict[str, Any]:
    if unknown := sorted(changes.keys() - _CHECKS.keys()):
        raise InvalidInput(
            f"update_job does not set {', '.join(unknown)}; it sets {', '.join(_CHECKS)}",
            field=unknown[0],
        )
    if not changes:
        raise InvalidInput(f"update_job was given nothing to set; it sets {', '.join(_CHECKS)}")
    fields = 0
    args: dict[str, Any] = {}
    for bit, (name, check) in enumerate(_CHECKS.items()):
        value = changes.get(name)
        if name in changes:
            fields |= 1 << bit
            if value is None and name in _NEVER_NULL:
                raise InvalidInput(f"{name} cannot be cleared; give a value", field=name)
        args[name] = None if value is None else check(value, name)
    recorded = changes.keys() - _PROGRESS
    args["fields"] = fields
    args["event"] = 1 if recorded else 0
    args["detail"] = ", ".join(sorted(recorded)) or None
    return args
