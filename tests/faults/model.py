"""T25: random calls on both dialects side by side, against one model in memory.

`python -m tests.faults.model --long --json FILE`
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pandora_db import EventKind, Hold, InvalidTransition, JobDb, LeaseLost, Stage, StageKind
from pandora_db.models.claim import Backoff
from pandora_db.models.stage import STAGES
from tests.faults.calls import make_job
from tests.faults.command import Bench, main
from tests.faults.model_parts import FAR, Held, K, ModelJob, World

if TYPE_CHECKING:
    from pandora_db import Claim

PAST = "2000-01-01 00:00:00.000"
SLOW = Backoff(first=FAR, jitter=0.1)
MOST_ATTEMPTS = 5
INTO = {
    Stage.QUEUED: Stage.DOWNLOADING,
    Stage.DOWNLOADED: Stage.ENCODING,
    Stage.ENCODED: Stage.UPLOADING,
}
NEXT = {
    Stage.DOWNLOADING: Stage.DOWNLOADED,
    Stage.ENCODING: Stage.ENCODED,
    Stage.UPLOADING: Stage.UPLOADED,
}


class JobsMachine(RuleBasedStateMachine):
    """Every rule makes one call on both dialects, and says what the model answers."""

    world: World

    def __init__(self) -> None:
        super().__init__()
        self.author = f"run {next(self.world.numbers)}"
        self.jobs: list[ModelJob] = []
        self.held: list[Held] = []
        self.tokens = itertools.count(1)
        self.world.tally["runs"] += 1
        self.world.tally["steps"] -= 1  # `count` is asked once before the first step

    # What the rules are made of

    def _both(self, name: str, call: Callable[[JobDb, int], Awaitable[Any]]) -> list[Any]:
        """The answers of both sides; an error of the library is an answer."""
        self.world.tally[name] += 1
        answers = []
        for number, side in enumerate(self.world.sides.values()):
            try:
                answers.append(self.world.run(call(side.db, number)))
            except (LeaseLost, InvalidTransition) as error:
                answers.append(type(error))
        return answers

    def _expect(self, name: str, call: Callable[[JobDb, int], Awaitable[Any]], value: Any) -> None:
        answers = self._both(name, call)
        assert answers == [value] * len(answers), f"{name}: {answers}, the model says {value}"

    def _under(
        self, name: str, held: Held, call: Callable[[JobDb, Claim], Awaitable[Any]], value: Any
    ) -> bool:
        """Make a call under a claim; whether the model accepts it."""
        expected = value if held.valid else LeaseLost
        self._expect(name, lambda db, n: call(db, held.claims[n]), expected)
        return held.valid

    def _compare(self, *jobs: ModelJob) -> None:
        for job in jobs:
            for name, side in self.world.sides.items():
                found = side.found(job.job_id)
                assert found == job.expected(), f"{name} {job.job_id}: {found}, {job.expected()}"

    def _job(self, data: st.DataObject) -> ModelJob:
        return data.draw(st.sampled_from(self.jobs))

    def _claim(self, data: st.DataObject) -> Held:
        """A claim: mostly one of the newest, which may be valid."""
        newest = self.held[-6:] if data.draw(st.integers(0, 3)) else self.held
        return data.draw(st.sampled_from(newest))

    def _take(self, job: ModelJob, claims: list[Claim]) -> None:
        job.stage = INTO[job.stage]
        job.attempt += 1
        job.token = next(self.tokens)
        job.lapsed = False
        job.delayed = False
        job.record(K.CLAIMED)
        self.held.append(Held(job, job.token, job.attempt, job.stage, claims))
        for claim in claims:
            assert (claim.job_id, claim.stage, claim.attempt, claim.lost) == (
                job.job_id, job.stage, job.attempt, False,
            )  # fmt: skip

    # The rules

    @rule(
        count=st.integers(1, 3),
        priority=st.sampled_from([0, 0, 10]),
        most=st.sampled_from([1, 2, 3, None]),
    )
    def insert(self, count: int, priority: int, most: int | None) -> None:
        for _ in range(count):
            job_id = 1_000_000 + next(self.world.numbers)
            fields = {} if most is None else {"max_attempts": most}
            job = make_job(self.author, job_id=job_id, priority=priority, **fields)
            self._expect("insert_job", lambda db, _, job=job: db.insert_job(job), job_id)
            self.jobs.append(ModelJob(job_id, priority, most or MOST_ATTEMPTS))

    @precondition(lambda self: self.jobs)
    @rule(stage=st.sampled_from(list(INTO)), limit=st.integers(1, 3))
    def claim_jobs(self, stage: Stage, limit: int) -> None:
        ready = [job for job in self.jobs if job.claimable and job.stage is stage]
        ready.sort(key=lambda job: (-job.priority, job.job_id))
        answers = self._both(
            "claim_jobs",
            lambda db, _: db.claim_jobs(stage, into=INTO[stage], limit=limit, author=self.author),
        )
        expected = [job.job_id for job in ready[:limit]]
        for answer in answers:
            assert [claim.job_id for claim in answer] == expected
        for number, job in enumerate(ready[:limit]):
            self._take(job, [answer[number] for answer in answers])
        self._compare(*ready)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def claim_job(self, data: st.DataObject) -> None:
        job = self._job(data)
        into = INTO.get(job.stage) or data.draw(st.sampled_from(list(NEXT)))
        claims = self._both("claim_job", lambda db, _: db.claim_job(job.job_id, into=into))
        if job.claimable:
            self._take(job, claims)
        else:
            assert claims == [None, None]
        self._compare(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), last=st.sampled_from([None, None, None, Stage.FAILED, Stage.UPLOADED]))
    def finish(self, data: st.DataObject, last: Stage | None) -> None:
        held = self._claim(data)
        stage = last or NEXT[held.stage]
        reached = held.job.after(stage)
        if self._under("finish_job", held, lambda db, c: db.finish_job(c, stage), reached):
            self._finished(held, stage)
        self._compare(held.job)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def update_stage(self, data: st.DataObject) -> None:
        held = self._claim(data)
        stage = NEXT[held.stage]
        if self._under("update_stage", held, lambda db, c: db.update_stage(c, stage), None):
            self._finished(held, stage)
        self._compare(held.job)

    def _finished(self, held: Held, stage: Stage) -> None:
        held.job.end(K.FINISHED, stage)
        if not stage.terminal:
            held.job.attempt = 0

    @precondition(lambda self: self.held)
    @rule(data=st.data(), progress=st.sampled_from([0.0, 0.5, 1.0]))
    def progress(self, data: st.DataObject, progress: float) -> None:
        held = self._claim(data)
        if self._under("update_job", held, lambda db, c: db.update_job(c, progress=progress), None):
            held.job.progress = progress
        self._compare(held.job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), wait=st.sampled_from([SLOW, 0.0, FAR]), final=st.booleans())
    def fail(self, data: st.DataObject, wait: float | Backoff, *, final: bool) -> None:
        held = self._claim(data)
        job = held.job
        again = not final and held.attempt < job.most
        back = Stage(STAGES[held.stage].returns_to or 0)
        if self._under(
            "fail_job",
            held,
            lambda db, c: db.fail_job(c, "it failed", retry_in=wait, final=final),
            again and job.after(back) is back,
        ):
            job.end(*((K.RETRYING, back) if again else (K.FAILED, Stage.FAILED)))
            job.delayed = job.stage is back and wait != 0.0
        self._compare(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), snooze=st.sampled_from([None, 0.0, FAR]))
    def give_back(self, data: st.DataObject, snooze: float | None) -> None:
        held = self._claim(data)
        job = held.job
        back = Stage(STAGES[held.stage].returns_to or 0)

        async def call(db: JobDb, claim: Claim) -> Stage:
            if snooze is None:
                return await db.release_job(claim)
            return await db.snooze_job(claim, snooze)

        name = "release_job" if snooze is None else "snooze_job"
        if self._under(name, held, call, job.after(back)):
            job.end(K.RELEASED if snooze is None else K.SNOOZED, back)
            job.attempt -= 1
            job.delayed = job.stage is back and bool(snooze)
        self._compare(job)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), size=st.sampled_from([0, 10, 300_000]))
    def save(self, data: st.DataObject, size: int) -> None:
        held = self._claim(data)
        state = {"token": held.token, "of": held.stage.name, "n": len(held.job.events)}
        state["blob"] = os.urandom(8) * size
        if self._under("save_checkpoint", held, lambda db, c: db.save_checkpoint(c, state), None):
            held.job.saved[held.stage] = state
        self._compare(held.job)

    @precondition(lambda self: any(held.valid for held in self.held))
    @rule(data=st.data())
    def load(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from([held for held in self.held if held.valid]))
        state = held.job.saved.get(held.stage)
        self._under("load_checkpoint", held, lambda db, c: db.load_checkpoint(c), state)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        job = self._job(data)
        kind = job.stage.kind
        if kind.terminal:
            answer: Any = True if job.stage is Stage.CANCELLED else InvalidTransition
        else:
            answer = kind is StageKind.WAITING
        self._expect("cancel_job", lambda db, _: db.cancel_job(job.job_id), answer)
        if answer is True and not kind.terminal:
            job.end(K.CANCELLED, Stage.CANCELLED)  # how far it was stays
            job.attempt, job.delayed = 0, False
        elif answer is False and job.hold is not Hold.CANCEL:
            job.hold = Hold.CANCEL
            job.record(K.CANCEL_REQUESTED)
        self._compare(job)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        job = self._job(data)
        waiting = job.stage.kind is StageKind.WAITING
        answer: Any = waiting
        if job.stage.terminal or job.hold is Hold.CANCEL:
            answer = InvalidTransition
        self._expect("pause_job", lambda db, _: db.pause_job(job.job_id), answer)
        if answer is not InvalidTransition and job.hold is Hold.NONE:
            job.hold = Hold.PAUSE
            job.record(K.PAUSED if waiting else K.PAUSE_REQUESTED)
        self._compare(job)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        job = self._job(data)
        answer = InvalidTransition if job.stage.terminal or job.hold is Hold.CANCEL else None
        self._expect("resume_job", lambda db, _: db.resume_job(job.job_id), answer)
        if answer is None and job.hold is Hold.PAUSE:
            job.hold = Hold.NONE
            job.record(K.RESUMED)
        self._compare(job)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def override(self, data: st.DataObject) -> None:
        """A plain `update_stage(job_id, …)` revokes whatever claim there is."""
        job = self._job(data)
        stage = data.draw(st.sampled_from([Stage.DOWNLOADED, Stage.ENCODED]))
        forbidden = job.stage > stage
        self._expect(
            "update_stage, plain",
            lambda db, _: db.update_stage(job.job_id, stage),
            InvalidTransition if forbidden else None,
        )
        if not forbidden and job.stage is not stage:
            job.record(K.STAGE, stage)
            job.attempt = 0
        self._compare(job)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        job = self._job(data)
        ended = job.stage.terminal
        answer = InvalidTransition if ended else None
        self._expect("requeue_job", lambda db, _: db.requeue_job(job.job_id), answer)
        if not ended and (job.stage is not Stage.QUEUED or job.hold):
            job.hold = Hold.NONE
            self._back_to_first(job, K.REQUEUED)
        self._compare(job)

    @precondition(lambda self: any(job.stage.terminal for job in self.jobs))
    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from([job for job in self.jobs if job.stage.terminal]))
        self._expect("retry_job", lambda db, _: db.retry_job(job.job_id), None)
        job.archived = False
        self._back_to_first(job, K.RETRIED)
        self._compare(job)

    def _back_to_first(self, job: ModelJob, kind: EventKind) -> None:
        if job.stage is not Stage.QUEUED:
            job.attempt, job.delayed, job.progress = 0, False, None
        job.record(kind, Stage.QUEUED)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        """A lease that ran out is renewed all the same, as long as nobody has recovered the job."""
        held = self._claim(data)
        kept = held.valid and not held.closed
        expected = [held.job.job_id] if kept else []

        async def call(db: JobDb, number: int) -> list[int]:
            return [claim.job_id for claim in await db.renew_claims([held.claims[number]])]

        self._expect("renew_claims", call, expected)
        if kept:
            held.job.lapsed = False
        self._compare(held.job)

    @precondition(lambda self: any(job.token for job in self.jobs))
    @rule(data=st.data())
    def let_lapse(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from([job for job in self.jobs if job.token]))
        for side in self.world.sides.values():
            side.raw(f"UPDATE jobs SET lease_until = '{PAST}' WHERE job_id = %s", job.job_id)
        job.lapsed = True
        self.world.tally["leases run out"] += 1
        self._compare(job)

    @precondition(lambda self: any(job.delayed for job in self.jobs))
    @rule(data=st.data())
    def let_time_pass(self, data: st.DataObject) -> None:
        job = data.draw(st.sampled_from([job for job in self.jobs if job.delayed]))
        for side in self.world.sides.values():
            side.raw("UPDATE jobs SET not_before = NULL WHERE job_id = %s", job.job_id)
        job.delayed = False

    @precondition(lambda self: self.held)
    @rule()
    def recover(self) -> None:
        lapsed = [job for job in self.jobs if job.lapsed]
        outcomes: dict[str, list[int]] = {"requeued": [], "failed": [], "cancelled": []}
        for job in lapsed:
            if job.hold is Hold.CANCEL:
                job.end(K.CANCELLED, Stage.CANCELLED)
                outcomes["cancelled"].append(job.job_id)
            elif job.attempt >= job.most:
                job.end(K.INTERRUPTED, Stage.FAILED)
                outcomes["failed"].append(job.job_id)
            else:
                job.end(K.RECOVERED, Stage(STAGES[job.stage].returns_to or 0))
                outcomes["requeued"].append(job.job_id)
        for report in self._both("recover", lambda db, _: db.recover()):
            found = {kind: sorted(getattr(report, kind)) for kind in outcomes}
            assert found == {kind: sorted(jobs) for kind, jobs in outcomes.items()}
        self._compare(*lapsed)

    @invariant()
    def count(self) -> None:
        self.world.tally["steps"] += 1

    @precondition(lambda self: any(held.valid for held in self.held))
    @rule(chance=st.integers(0, 40))
    def restart(self, chance: int) -> None:
        """The handles are closed and opened; their claims stay until they lapse."""
        if chance == 13:
            self.world.tally["restarts"] += 1
            for side in self.world.sides.values():
                side.restart()
            for held in self.held:
                held.closed = True

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:  # nothing went wrong before
                self._compare(*self.jobs)
        finally:
            for side in self.world.sides.values():
                side.raw("DELETE FROM jobs WHERE author = %s", self.author)


def check_model(
    urls: dict[str, str], chosen: int, *, runs: int, steps: int, shrink: bool
) -> Counter[str]:
    """Run the machine `runs` times, up to `steps` steps each; raises with the shortest failure."""
    world = World(urls)
    machine = seed(chosen)(type("Jobs", (JobsMachine,), {"world": world}))
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=runs,
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=phases,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        world.close()
    return world.tally


async def _report(bench: Bench) -> dict[str, Any]:
    urls = {"sqlite": bench.sqlite(), "postgres": bench.postgres()}
    tally: Counter[str] = Counter()
    target = 50_000 if bench.long else 1_000
    turn = 0
    while tally["steps"] < target:
        tally += await asyncio.to_thread(
            check_model, urls, bench.seed + turn, runs=100, steps=60, shrink=True
        )
        turn += 1
    return {"tally": dict(tally.most_common())}  # a counterexample would have raised


if __name__ == "__main__":
    main(_report)
