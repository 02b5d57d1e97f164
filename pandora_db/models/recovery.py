"""What `recover` did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from pandora_db.models.checks import counted
from pandora_db.models.event import stage_name

RecoveryOutcome = Literal["requeued", "failed", "cancelled"]


class RecoveredJob(NamedTuple):
    """A job that had been at work without a living worker.

    Attributes:
        job_id: the job.
        stage: the code of the stage at which it was interrupted.
        outcome: "requeued", or ended as "failed" or "cancelled".
        attempt: which attempt at that stage was interrupted.
        owner: the worker that was lost; None when there never was a lease.
    """

    job_id: int
    stage: int
    outcome: RecoveryOutcome
    attempt: int
    owner: str | None

    def __str__(self) -> str:
        why = f"the lease of {self.owner} ran out" if self.owner else "nobody had a lease"
        return (
            f"job {self.job_id}, attempt {self.attempt} at {stage_name(self.stage)}: {why}, "
            f"{self.outcome}"
        )


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """What `recover` found and did; `print` it.

    Attributes:
        jobs: every job that was recovered, with what became of it.
        unowned: ids of jobs that are at work without a lease and were left alone, at most 1,000.
    """

    jobs: tuple[RecoveredJob, ...] = ()
    unowned: tuple[int, ...] = ()

    @property
    def requeued(self) -> tuple[int, ...]:
        """Ids of the jobs that wait again."""
        return self._with("requeued")

    @property
    def failed(self) -> tuple[int, ...]:
        """Ids of the jobs that failed: no attempt was left, or their policy says so."""
        return self._with("failed")

    @property
    def cancelled(self) -> tuple[int, ...]:
        """Ids of the jobs whose cancellation had been asked for."""
        return self._with("cancelled")

    def _with(self, outcome: RecoveryOutcome) -> tuple[int, ...]:
        return tuple(job.job_id for job in self.jobs if job.outcome == outcome)

    def __str__(self) -> str:
        lines = [str(job) for job in self.jobs] or ["nothing to recover"]
        if self.unowned:
            verb = "is" if len(self.unowned) == 1 else "are"
            lines.append(
                f"{counted(len(self.unowned), 'job')} {verb} at work without a lease: left alone"
            )
        return "\n".join(lines)
