"""T3 and T4: claims, recovery and holds meet on one job; exactly one of them wins.

`python -m tests.faults.claim_races --long --json FILE`
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any

from pandora_db import EventKind, Hold, InvalidTransition, JobDb, LeaseLost, Stage
from tests.faults.calls import make_job
from tests.faults.command import Bench, main
from tests.faults.crowds import recover_in_crowds, recover_while_restarting
from tests.faults.leaks import NAME, Watch
from tests.faults.oracle import Event, Verdict, illegal, read_histories

if TYPE_CHECKING:
    from pandora_db import Claim

PAST = "2000-01-01 00:00:00.000"
# A batch of one is a lone call; in a large one both handles flush groups against each other.
BATCHES = (1, 1, 2, 10, 50, 100)
LATEST = 6
PAUSE = 0.004
MOST_SAVES = 10
LARGE = 0.1


class Race:
    """Two handles on one database, and what they do to the same jobs at the same time."""

    def __init__(self, one: JobDb, other: JobDb, watch: Watch, seed: int) -> None:
        self.verdict = Verdict()
        self._one = one
        self._other = other
        self._watch = watch
        self._chance = random.Random(seed)

    async def run(self, rounds: int) -> None:
        """Each race `rounds` times."""
        races = (
            self._claim_against_claim,
            self._claim_jobs_against_claim_jobs,
            self._claim_against_recover,
            self._finish_against_recover,
            self._save_against_recover,
            self._update_against_recover,
            self._recover_against_recover,
            self._pause_against_finish,
            self._cancel_against_finish,
        )
        for race in races:
            done = 0
            while done < rounds:
                count = min(self._chance.choice(BATCHES), rounds - done)
                if race == self._save_against_recover:
                    count = min(count, MOST_SAVES)
                jobs = await self._one.insert_jobs([make_job("race")] * count)
                await race(jobs)
                await self._check(jobs)
                done += count
            self.verdict.tally[race.__name__.strip("_")] = done

    def _handles(self) -> tuple[JobDb, JobDb]:
        pair = [self._one, self._other]
        self._chance.shuffle(pair)
        return pair[0], pair[1]

    async def _together(
        self, calls: Sequence[Callable[[], Awaitable[Any]]], others: Sequence[Any]
    ) -> tuple[list[Any], list[Any]]:
        """Run all at once, in any order, each side some ticks of the loop late."""
        gate = asyncio.Event()
        # Neither side leads always: one of them is some ticks late, or some part of a call.
        late = self._chance.randrange(2)
        ticks = self._chance.choice((0, 0, self._chance.randrange(LATEST)))
        pause = self._chance.choice((0.0, 0.0, self._chance.uniform(0, PAUSE)))

        async def run(side: int, call: Callable[[], Awaitable[Any]]) -> Any:
            await gate.wait()
            if side == late:
                for _ in range(ticks):
                    await asyncio.sleep(0)
                if pause:
                    await asyncio.sleep(pause)
            try:
                return await call()
            except (LeaseLost, InvalidTransition) as error:
                return error

        runs = [(0, n, call) for n, call in enumerate(calls)]
        runs += [(1, n, call) for n, call in enumerate(others)]
        self._chance.shuffle(runs)
        tasks = {(side, n): asyncio.ensure_future(run(side, call)) for side, n, call in runs}
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(*tasks.values())
        first = [tasks[0, n].result() for n in range(len(calls))]
        return first, [tasks[1, n].result() for n in range(len(others))]

    async def _claim_against_claim(self, jobs: list[int]) -> None:
        a, b = self._handles()
        mine, yours = await self._together(
            [lambda j=j: a.claim_job(j, into=Stage.DOWNLOADING) for j in jobs],
            [lambda j=j: b.claim_job(j, into=Stage.DOWNLOADING) for j in jobs],
        )
        for job_id, one, other in zip(jobs, mine, yours, strict=True):
            if (one is None) == (other is None):
                self.verdict.complain("not one claim", (job_id, one, other))
        await self._only(jobs, EventKind.CLAIMED, 1)
        await self._finish([claim for claim in (*mine, *yours) if claim is not None])

    async def _claim_jobs_against_claim_jobs(self, jobs: list[int]) -> None:
        a, b = self._handles()
        share = self._chance.randint(1, len(jobs))

        def claim(db: JobDb) -> Callable[[], Awaitable[list[Claim]]]:
            return lambda: db.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=share)

        found = await self._together([claim(a)] * 3, [claim(b)] * 3)
        claims = [claim for side in found for answer in side for claim in answer]
        while more := await a.claim_jobs(Stage.QUEUED, into=Stage.DOWNLOADING, limit=100):
            claims += more
        if Counter(claim.job_id for claim in claims) != Counter(jobs):
            self.verdict.complain("not one claim each", Counter(c.job_id for c in claims))
        await self._only(jobs, EventKind.CLAIMED, 1)
        await self._finish(claims)

    async def _claim_against_recover(self, jobs: list[int]) -> None:
        """Dead claims of the one are recovered by the other, while both want the jobs again."""
        a, b = self._handles()
        dead = await self._claim_all(a, jobs)
        await self._expire(jobs)
        reports, claims = await self._together(
            [a.recover], [lambda j=j: b.claim_job(j, into=Stage.DOWNLOADING) for j in jobs]
        )
        if sorted(reports[0].requeued) != sorted(jobs):
            self.verdict.complain("not recovered once", (jobs, reports))
        await self._only(jobs, EventKind.RECOVERED, 1)
        rest = [j for j, claim in zip(jobs, claims, strict=True) if claim is None]
        again = await self._claim_all(a, rest)
        await self._refused(dead)
        self.verdict.tally["claimed during a recovery"] += len(jobs) - len(rest)
        await self._finish([*again, *(claim for claim in claims if claim is not None)])

    async def _finish_against_recover(self, jobs: list[int]) -> None:
        a, b = self._handles()
        claims = await self._claim_all(a, jobs)
        await self._expire(jobs)
        ends, reports = await self._together(
            [lambda c=c: a.finish_job(c, Stage.DOWNLOADED) for c in claims], [b.recover]
        )
        recovered = Counter(reports[0].requeued)
        for job_id, end in zip(jobs, ends, strict=True):
            finished = not isinstance(end, LeaseLost)
            self.verdict.tally["finished before a recovery" if finished else "recovered first"] += 1
            if finished == bool(recovered[job_id]):
                self.verdict.complain("not one winner", (job_id, end, recovered[job_id]))
            row = await self._one.get_job(job_id)
            if row is None or (row.ready == Stage.DOWNLOADED) != finished:
                self.verdict.complain("the answer is not what is stored", (end, row))
        await self._archive(jobs)

    async def _save_against_recover(self, jobs: list[int]) -> None:
        """What was saved in time is what the next worker finds; what came late is nowhere."""
        a, b = self._handles()
        claims = await self._claim_all(a, jobs)
        for claim in claims:
            await a.save_checkpoint(claim, {"n": 1})
        await self._expire(jobs)
        # A large state is written in several statements.
        late = {
            "n": 2,
            "blob": self._chance.randbytes(600_000 if self._chance.random() < LARGE else 10),
        }
        saves, found = await self._together(
            [lambda c=c: a.save_checkpoint(c, late) for c in claims],
            [lambda: self._take_over(b, jobs)],
        )
        for claim, saved in zip(claims, saves, strict=True):
            _, state = found[0][claim.job_id]
            self._judge_write(claim.job_id, saved, state == late, state in (late, {"n": 1}))
        await self._finish([claim for claim, _ in found[0].values()])

    async def _update_against_recover(self, jobs: list[int]) -> None:
        a, b = self._handles()
        claims = await self._claim_all(a, jobs)
        await self._expire(jobs)
        writes, found = await self._together(
            [lambda c=c: a.update_job(c, progress=0.75, output_file="late") for c in claims],
            [lambda: self._take_over(b, jobs)],
        )
        for claim, written in zip(claims, writes, strict=True):
            row = found[0][claim.job_id][0].job
            late = (row.progress, row.output_file)
            there = late == (0.75, "late")
            self._judge_write(claim.job_id, written, there, there or late == (None, None))
        await self._finish([claim for claim, _ in found[0].values()])

    async def _take_over(self, db: JobDb, jobs: Sequence[int]) -> dict[int, tuple[Claim, Any]]:
        claims: list[Claim] = []
        missing = list(jobs)
        while missing:  # a row that is being written just now is passed over
            await db.recover()
            for job_id in missing:
                claim = await db.claim_job(job_id, into=Stage.DOWNLOADING)
                claims += [] if claim is None else [claim]
            missing = list(set(jobs) - {claim.job_id for claim in claims})
        return {claim.job_id: (claim, await db.load_checkpoint(claim)) for claim in claims}

    def _judge_write(self, job_id: int, answer: object, there: object, whole: object) -> None:
        in_time = not isinstance(answer, LeaseLost)
        self.verdict.tally["written before a recovery" if in_time else "written too late"] += 1
        if in_time != bool(there) or not whole:
            self.verdict.complain("the answer is not what is stored", (job_id, answer, there))

    async def _recover_against_recover(self, jobs: list[int]) -> None:
        """Both sides recover twice; every second job is a live worker's and stays untouched."""
        a, b = self._handles()
        claims = await self._claim_all(a, jobs)
        live, gone = jobs[1::2], jobs[0::2]
        await self._expire(gone)
        found = await self._together([a.recover] * 2, [b.recover] * 2)
        recovered = [job_id for side in found for report in side for job_id in report.requeued]
        if sorted(recovered) != sorted(gone):
            self.verdict.complain("not recovered once", (gone, recovered))
        if again := (await b.recover()).requeued:
            self.verdict.complain("recovered again", again)
        await self._only(gone, EventKind.RECOVERED, 1)
        await self._finish([claim for claim in claims if claim.job_id in set(live)])
        await self._refused([claim for claim in claims if claim.job_id in set(gone)])
        await self._archive(gone)

    async def _pause_against_finish(self, jobs: list[int]) -> None:
        a, b = self._handles()
        claims = await self._claim_all(a, jobs)
        last = self._chance.random() < 0.5
        end = Stage.UPLOADED if last else Stage.DOWNLOADED
        ends, pauses = await self._together(
            [lambda c=c: a.finish_job(c, end) for c in claims],
            [lambda j=j: b.pause_job(j) for j in jobs],
        )
        for job_id, ended, paused in zip(jobs, ends, pauses, strict=True):
            row = await self._one.get_job(job_id)
            assert row is not None
            first = "paused first" if paused is False else "finished first"
            self.verdict.tally[first] += 1
            # A finished job has nothing left to pause; one that goes on waits, paused.
            expected = (end, True, Hold.NONE) if last else (end, False, Hold.PAUSE)
            late = isinstance(paused, InvalidTransition) if last else paused is True
            if (
                isinstance(ended, Exception)
                or (row.ready, row.archived, row.hold) != expected
                or not (paused is False or late)
            ):
                self.verdict.complain("pause and finish", (row, ended, paused))
        await self._archive(jobs)

    async def _cancel_against_finish(self, jobs: list[int]) -> None:
        a, b = self._handles()
        claims = await self._claim_all(a, jobs)
        last = self._chance.random() < 0.5
        end = Stage.UPLOADED if last else Stage.DOWNLOADED
        ends, cancels = await self._together(
            [lambda c=c: a.finish_job(c, end) for c in claims],
            [lambda j=j: b.cancel_job(j) for j in jobs],
        )
        for job_id, ended, cancelled in zip(jobs, ends, cancels, strict=True):
            row = await self._one.get_job(job_id)
            assert row is not None
            self.verdict.tally["cancelled first" if cancelled is False else "finished first"] += 1
            # What is done is done; a job that would go on is cancelled, whoever came first.
            expected = (end if last else Stage.CANCELLED, True, Hold.NONE)
            late = isinstance(cancelled, InvalidTransition) if last else cancelled is True
            if (
                isinstance(ended, Exception)
                or (row.ready, row.archived, row.hold) != expected
                or not (cancelled is False or late)
            ):
                self.verdict.complain("cancel and finish", (row, ended, cancelled))
        await self._archive(jobs)

    async def _claim_all(self, db: JobDb, jobs: Sequence[int]) -> list[Claim]:
        claims = await asyncio.gather(*(db.claim_job(j, into=Stage.DOWNLOADING) for j in jobs))
        assert None not in claims
        return [claim for claim in claims if claim is not None]

    async def _finish(self, claims: Sequence[Claim]) -> None:
        """Every winner can go on under its claim, by its own handle."""
        for claim in claims:
            db = self._one if claim.owner == self._one.owner else self._other
            await db.finish_job(claim, Stage.UPLOADED)

    async def _refused(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            db = self._one if claim.owner == self._one.owner else self._other
            try:
                await db.finish_job(claim, Stage.FAILED)
            except LeaseLost:
                self.verdict.tally["late finishes refused"] += 1
            else:
                self.verdict.complain("late finish accepted", claim)

    async def _archive(self, jobs: Sequence[int]) -> None:
        for job_id in jobs:
            await self._one.archive_job(job_id)

    async def _expire(self, jobs: Sequence[int]) -> None:
        marks = ", ".join(map(str, jobs))
        await self._watch.rows(f"UPDATE jobs SET lease_until = '{PAST}' WHERE job_id IN ({marks})")

    async def _only(self, jobs: Sequence[int], kind: EventKind, times: int) -> None:
        for job_id, history in (await self._histories(jobs)).items():
            if (found := sum(event.kind is kind for event in history)) != times:
                self.verdict.complain(f"{kind.name} {found} times", (job_id, history))

    async def _check(self, jobs: Sequence[int]) -> None:
        for job_id, history in (await self._histories(jobs)).items():
            if fault := illegal(history):
                self.verdict.complain("history illegal", f"job {job_id}: {fault}")
        self.verdict.tally["histories"] += len(jobs)

    async def _histories(self, jobs: Sequence[int]) -> dict[int, list[Event]]:
        return await read_histories(self._watch, jobs) if jobs else {}


async def race(url: str, seed: int, rounds: int) -> Verdict:
    """Every race `rounds` times, by two handles on the migrated database at `url`."""
    settings = {"application_name": NAME, "sweep": None, "lease": 600.0, "heartbeat": 300.0}
    async with Watch(url) as watch:
        async with JobDb.open(url, **settings) as one, JobDb.open(url, **settings) as other:
            found = Race(one, other, watch, seed)
            await found.run(rounds)
        await watch.nothing_open()
    return found.verdict


async def _report(bench: Bench) -> dict[str, Any]:
    rounds, crowds, restarts = (10_000, 100, 25) if bench.long else (200, 5, 2)
    report: dict[str, Any] = {}
    for dialect, url in (("sqlite", bench.sqlite()), ("postgres", bench.postgres())):
        found = await race(url, bench.seed, rounds)
        report[dialect] = {"tally": found.tally, "wrong": found.wrong, "notes": found.notes}
    for dialect, url in (("sqlite", bench.sqlite()), ("postgres", bench.postgres())):
        found = await recover_in_crowds(url, bench.seed, crowds)
        report[f"{dialect}, 8 processes recover"] = found.report()
    found = await recover_while_restarting(bench.seed, restarts)
    report["postgres, 8 processes recover while the server restarts"] = found.report()
    return report


if __name__ == "__main__":
    main(_report)
