"""Ringing a worker's bell when the history tells of a job for it, by whichever process."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.runtime.worker import Worker

_PATIENCE = 60.0


async def listen(db: JobDb, worker: Worker) -> None:
    """Ring for as long as the task lives; polling goes on beside it."""
    # It is a wake-up for worker loops, and no method for users of the handle.
    work = db._work_at([worker.work.waiting])  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while True:
        if await work.wait(_PATIENCE):
            worker.bell.ring()
