"""What a handler tells about its job: progress, log lines, notes and numbers."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING

from pandora_db.codecs.checks import check_int, clean_error
from pandora_db.models.limits import MAX_LOG
from pandora_db.models.log import MAX_LEVEL, LogLine
from pandora_db.runtime.progress import Progress
from pandora_db.runtime.reporter import Reporter

if TYPE_CHECKING:
    from pandora_db.db import JobDb
    from pandora_db.models.claim import Claim

log = logging.getLogger("pandora_db.jobs")

_making = threading.Lock()


class Telling:
    """Part of `JobContext`."""

    def __init__(self, db: JobDb, claim: Claim, every: float) -> None:
        self.db = db
        self.claim = claim
        self._every = every
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._told: Reporter | None = None

    @property
    def told(self) -> Reporter | None:
        """What gathers it; None as long as nothing was told."""
        return self._told

    @property
    def _reporter(self) -> Reporter:
        """Made when something is told, which may be in a thread: a short job tells nothing."""
        if self._told is None:
            with _making:
                if self._told is None:
                    self._told = Reporter(
                        self.db, self.claim, self._every, self._loop, self._thread
                    )
        return self._told

    @property
    def job_id(self) -> int:
        """The job."""
        return self.claim.job_id

    def progress(self, progress: Progress | float) -> None:
        """Tell how far the job is: a `Progress`, or a number of 0 … 1.

        Gathered: written at most once in each `progress_every` seconds, the last one always.
        """
        if not isinstance(progress, Progress):
            progress = Progress.percentage(progress)
        self._reporter.report(progress)

    def log(self, message: str, level: int = logging.INFO) -> None:
        """Keep a line in the job's log, which `db.logs(job_id)` reads; cheap to call.

        Gathered as progress is, and the newest 1,000 lines of a job are kept. It goes to the logger
        `pandora_db.jobs` too, at once, the job's id as `record.job_id`.
        """
        text = clean_error(message, "message", MAX_LOG)
        self._reporter.log(LogLine(text, check_int(level, "level", 0, MAX_LEVEL)))
        log.log(level, "job %d: %s", self.job_id, message, extra={"job_id": self.job_id})

    def warn(self, message: str) -> None:
        """Note a warning: it is logged, and kept with the progress of the job."""
        self.log(self._reporter.notes.warn(message), logging.WARNING)
        self._reporter.report()

    def add_error(self, error: str | BaseException) -> None:
        """Note an error that does not end the job, such as one file of many; kept likewise."""
        self.log(self._reporter.notes.add_error(error), logging.ERROR)
        self._reporter.report()

    def metric(self, name: str, value: float) -> None:
        """Set a number that is kept with the progress of the job."""
        self._reporter.notes.measure(name, value, add=False)
        self._reporter.report()

    def count(self, name: str, by: float = 1) -> None:
        """Add to such a number; it counts on over attempts."""
        self._reporter.notes.measure(name, by, add=True)
        self._reporter.report()
