"""Claiming jobs: each goes to one worker, with a lease and a token."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, NamedTuple, cast
from uuid import UUID

from pandora_db.codecs.checks import check_id, check_int
from pandora_db.codecs.claim import (
    check_into,
    check_lease,
    check_route,
    claim_filters,
    waiting_before,
)
from pandora_db.drivers.base import Row, Unit
from pandora_db.errors import (
    ConnectionFailed,
    InvalidInput,
    NotFound,
    OutcomeUnknown,
    PandoraDbError,
    TransactionAborted,
)
from pandora_db.models.checks import refuse
from pandora_db.models.claim import Claim, Limits
from pandora_db.models.job_row import JobRow, row_of
from pandora_db.models.job_type import JobType
from pandora_db.models.stage import StageCode, stage_info
from pandora_db.store.claim_cursor import QueuePlace, place_of
from pandora_db.store.claim_ends import ClaimEnds
from pandora_db.store.claim_limits import choose_within
from pandora_db.store.held_claim import Grant, HeldClaim, check_claims
from pandora_db.store.leases import lease_args
from pandora_db.store.operation import Operation, operation

_MOST = 1_000
_PAUSES = (0.05, 0.1, 0.2)
"""Seconds, about, before a claim by a transaction is tried again."""
_COLUMNS = len(JobRow._fields)
_ONE, _HUNDRED, _THOUSAND = map(frozenset, (("one",), ("hundred",), ("thousand",)))
_SALT = 20  # bits; SQLite's tokens keep as many of them free


class _Query(NamedTuple):
    """What a call asks for: arguments and flags of its filters, how many, and where to."""

    args: dict[str, Any]
    flags: frozenset[str]
    limit: int
    into: StageCode
    repeated: bool

    def begin(self, place: QueuePlace | None) -> dict[str, Any]:
        """The arguments to begin at the head of the queue, or behind a place."""
        if place is None:
            return self.args
        names = ("after_rank", "after_requested_at", "after_job_id")
        return self.args | dict(zip(names, place, strict=True))

    def when(self, place: QueuePlace | None) -> frozenset[str]:
        """The flags likewise."""
        return self.flags if place is None else self.flags | {"after"}

    @property
    def key(self) -> tuple[Any, ...] | None:
        """What tells one set of filters from another; there are too many authors and guilds."""
        args = self.args
        if {"author", "author_id", "guild_id"} & args.keys():
            return None
        names = cast("Sequence[str]", args.get("names", ()))
        return (args["stage"], self.into, args.get("tags"), args.get("job_type"), tuple(names))


class Claims(ClaimEnds):
    """Part of `Store`."""

    @property
    def owner(self) -> str:
        """The name under which this handle claims jobs; another one after each start."""
        return self._leases.owner

    async def claim_jobs(
        self,
        stage: StageCode | int,
        *,
        into: StageCode | int,
        limit: int = 1,
        lease: float | None = None,
        names: Iterable[str] | None = None,
        job_type: JobType | int | None = None,
        guild_id: int | None = None,
        author: str | int | None = None,
        tags: Iterable[str] = (),
        limits: Limits | None = None,
        operation_id: UUID | None = None,
    ) -> list[Claim]:
        """Take up to `limit` jobs that wait at `stage` into the working stage `into`.

        By priority, then request time, then id; no two callers ever get the same job. Paused jobs
        and those whose time has not come are passed over. Where finding the head of a queue is seen
        to cost milliseconds (an old snapshot held open, thousands of jobs that wait for their
        time), a job that comes to stand there may be met later, by up to 20 times that.

        The leases are renewed in the background until each claim ends; see `Claim`. A job that is
        given back waits at the stage before `into`, whichever it was claimed from.

        Args:
            stage: where the jobs wait.
            into: where they are worked on.
            limit: how many at most, 1 … 1,000.
            lease: seconds that a claim counts without a sign of life; None takes the setting.
            names: only jobs with one of these names.
            job_type: only jobs of this pipeline.
            guild_id: only jobs of this guild.
            author: only jobs of this author, by name or by id (an int).
            tags: what this worker offers; jobs that ask for anything else are passed over.
            limits: how many jobs may be at `into` at once, over all workers. Costs a transaction.
            operation_id: repeats an earlier call, which is answered with those of its claims that
                still count; when none does, jobs are claimed anew. A call that was cancelled may
                have claimed: repeat it, or leave those jobs to their leases.

        Returns:
            The claims, in the order of the queue; none when no job waits.

        Raises:
            InvalidInput: a stage that does not wait or does not work, a lease shorter than the
                heartbeat or as short, or another bad argument; nothing was claimed.
            SchemaMissing: the pipeline was defined after `init_schema`: call it again.
        """
        start, end = check_route(stage, into)
        wanted = check_int(limit, "limit", 1, _MOST)
        args, flags = claim_filters(names, job_type, guild_id, author, tags)
        within = _check_limits(limits)
        if (pipeline := stage_info(end).pipeline) not in self._leases.pipelines:
            await self._check_pipeline(pipeline)
        call = operation(operation_id)
        args |= self._terms(end, lease, call) | {"stage": start.value}
        query = _Query(args, flags, wanted, end, call.repeated)
        if within is not None:
            taking = self._persist(partial(self._take_within, query, within))
        elif query.repeated:
            taking = self._persist(partial(self._take_once, query))
        else:
            taking = self._take(query)
        return [*await self._taken(taking, query)]

    async def claim_job(
        self,
        job_id: int,
        *,
        into: StageCode | int,
        lease: float | None = None,
        operation_id: UUID | None = None,
    ) -> Claim | None:
        """Take this one job into the working stage `into`, whatever its name and tags are.

        Returns:
            None when it does not wait: another worker has it, it is held, its time has not come, or
            it has ended.

        Raises:
            NotFound: there is no such job.
            InvalidInput: nobody works at `into`, or another bad argument.
            SchemaMissing: as in `claim_jobs`.
        """
        check_id(job_id)
        end = check_into(into)
        if (pipeline := stage_info(end).pipeline) not in self._leases.pipelines:
            await self._check_pipeline(pipeline)
        call = operation(operation_id)
        stages = [one.value for one in waiting_before(end)]
        args = self._terms(end, lease, call) | {"job_ids": [job_id], "stages": stages}
        query = _Query(args, frozenset(), 1, end, call.repeated)
        once = partial(self._take_once, query)
        taking = self._persist(once) if query.repeated else self._take_ids(query)
        if claims := await self._taken(taking, query):
            return claims[0]
        if not await self._session.read("find_state", {"job_id": job_id, "operation_id": call.id}):
            raise NotFound(job_id)
        return None

    async def renew_claims(self, claims: Iterable[Claim]) -> list[Claim]:
        """Renew these leases now; those that still count.

        The heartbeat does so by itself, except for claims made on a connection of the caller's
        (`bind`): call this on the handle after your commit, and it renews them from then on.
        """
        given = check_claims(claims)
        for claim in given:
            self._leases.check(claim)
            check_lease(claim.lease, self._leases.settings.heartbeat)
        given = [claim for claim in given if not claim.lost]
        found = list(await self._session.take("renew_leases", lease_args(given)))
        if len(found) < len(given):  # lost, or held by another transaction just now
            found += await self._session.read("find_leases", lease_args(given))
        # What is asked may be older than an end that was written meanwhile or is not committed yet.
        over = {claim for claim in given if claim.settled or claim.undecided}
        kept = [claim for claim in self._leases.note(given, found) if claim not in over]
        for claim in kept:
            claim.reopen()  # ended in a caller's transaction that was undone without our knowledge
        self._leases.renewed(kept)
        return [*kept]

    async def refresh_claims(self, claims: Iterable[Claim]) -> list[Claim]:
        """Learn what is asked of these jobs and whether they were taken; those that still count.

        The heartbeat learns it too, each time that it renews the leases; this renews nothing.
        """
        given = check_claims(claims)
        for claim in given:
            self._leases.check(claim)
        given = [claim for claim in given if claim.alive]
        found = await self._session.read("find_leases", lease_args(given))
        return [*self._leases.note(given, found)]

    def _terms(self, into: StageCode, lease: float | None, call: Operation) -> dict[str, Any]:
        settings = self._leases.settings
        return {
            "into": into.value,
            "owner": self._leases.owner,
            "lease": settings.lease if lease is None else check_lease(lease, settings.heartbeat),
            "operation_id": call.id,
            "salt": random.getrandbits(_SALT),
        }

    async def _taken(
        self, taking: Coroutine[Any, Any, list[HeldClaim]], query: _Query
    ) -> list[HeldClaim]:
        """Await it. What a cancelled call takes is given back, unless it can be asked for again.

        A call that names its operation is undone instead, or, where its commit is under way, found
        by the next one: given back, its claims would be lost to whoever has found them meanwhile.
        """
        if query.repeated:
            return await taking
        return await self._leases.unless_cancelled(taking, self._give_back)

    async def _take(self, query: _Query) -> list[HeldClaim]:
        loop = asyncio.get_running_loop()
        cursor = self._leases.cursor(query.key)
        last: JobRow | None = None
        taken: list[HeldClaim] = []
        made: list[HeldClaim] = []
        while True:
            began = loop.time()
            start = cursor.start(began)
            wanted = query.limit - len(taken)
            try:
                rows = await self._session.take(
                    "claim_jobs", query.begin(start) | {"limit": wanted},
                    query.when(start) | _up_to(wanted), found_by="find_claims",
                )  # fmt: skip
            except PandoraDbError:
                if not taken:
                    raise
                break  # those of the first round are claimed
            if taken:  # a lost answer is found with those before it
                known = {claim.job_id for claim in taken}
                rows = [row for row in rows if row[0] not in known]
            made = self._claims(rows, query)
            taken += made
            last = made[-1].job if made else None
            cursor.note(start, last, began, loop.time(), full=len(made) == wanted)
            if start is None or len(made) == wanted:
                break
        if cursor.is_suspicious and last is not None:
            with suppress(PandoraDbError):  # it is only a measurement
                head = await self._time(query, None)
                cursor.judge(head, await self._time(query, place_of(last)))
        if len(taken) > len(made):  # of two rounds
            taken.sort(key=_in_queue)
        return taken

    async def _time(self, query: _Query, place: QueuePlace | None) -> float:
        """Seconds to find the first waiting job, from the head of the queue or behind a place."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        nobody: dict[str, Any] = {"full_authors": [], "full_guilds": [], "full_keys": []}
        args = query.begin(place) | nobody | {"limit": 1}
        await self._session.read("find_candidates", args, query.when(place))
        return loop.time() - began

    async def _taken_before(self, unit: Unit, query: _Query) -> list[HeldClaim] | None:
        """What an earlier call with this operation id took, as far as it still counts.

        That call may still be under way, at another handle: the later of the two waits for it.
        """
        if not query.repeated:
            return None
        await unit.read("lock_operation", query.args)
        found = await unit.read("find_claims", query.args)
        wanted = query.args.get("job_ids")
        if wanted is not None and any(row[0] not in wanted for row in found):
            raise InvalidInput(
                f"operation_id {query.args['operation_id']} was used on another job; "
                "give each call an id of its own",
                field="operation_id",
            )
        return self._claims(found, query) if found else None

    async def _persist(self, take: Callable[[], Awaitable[list[HeldClaim]]]) -> list[HeldClaim]:
        """Take in a transaction, anew after errors that pass: with those nothing was taken."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._leases.settings.connect_timeout
        for pause in _PAUSES:
            try:
                return await take()
            except (ConnectionFailed, TransactionAborted):
                if not self._leases.lasting or loop.time() > deadline:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
        return await take()

    async def _take_once(self, query: _Query) -> list[HeldClaim]:
        """Take what is wanted, unless an earlier call with this operation id took something."""
        async with self._taking(query) as unit:
            if (found := await self._taken_before(unit, query)) is not None:
                return found
            if "job_ids" in query.args:
                rows = await unit.take("claim_by_ids", query.args)
            else:
                args = query.args | {"limit": query.limit}
                rows = await unit.take("claim_jobs", args, query.flags | _up_to(query.limit))
        return self._claims(rows, query)

    @asynccontextmanager
    async def _taking(self, query: _Query) -> AsyncGenerator[Unit, None]:
        """A transaction; when nobody knows whether it was committed, the error names the call."""
        try:
            async with self._session.unit() as unit:
                yield unit
        except OutcomeUnknown as error:
            what = "claim_job" if "job_ids" in query.args else "claim_jobs"
            raise OutcomeUnknown(UUID(query.args["operation_id"]), what) from error.__cause__

    async def _take_ids(self, query: _Query) -> list[HeldClaim]:
        rows = await self._session.take("claim_by_ids", query.args, found_by="find_claims")
        return self._claims(rows, query)

    async def _take_within(self, query: _Query, limits: Limits) -> list[HeldClaim]:
        """One claim of the stage after the other, so that what was counted still holds."""
        args = query.args
        async with self._taking(query) as unit:
            if (found := await self._taken_before(unit, query)) is not None:
                return found
            await unit.read("lock_claims", args)
            chosen = await choose_within(unit, args, query.flags, query.limit, limits)
            if not chosen:
                return []
            rows = await unit.take(
                "claim_by_ids",
                args | {"job_ids": chosen, "stages": [args["stage"]]},
                frozenset({"skip_locked"}),
            )
        return self._claims(rows, query)

    def _claims(self, rows: Sequence[Row], query: _Query) -> list[HeldClaim]:
        grant = Grant(query.into, query.args["lease"], self._leases.origin)
        claims = [
            HeldClaim(row_of(row[:_COLUMNS]), row[_COLUMNS], row[_COLUMNS + 1], grant)
            for row in rows
        ]
        claims.sort(key=_in_queue)
        self._leases.adopt(claims)
        return claims

    async def _give_back(self, claims: list[HeldClaim]) -> None:
        """For nobody: the caller was cancelled. What cannot be given back runs out by itself."""
        for claim in claims:
            with suppress(PandoraDbError):
                await self.release_job(claim)


def _check_limits(value: object) -> Limits | None:
    if value is not None and not isinstance(value, Limits):
        refuse("limits", value, "Limits(…) or None")
    return value


def _up_to(count: int) -> frozenset[str]:
    """The variant of claim_jobs for so many jobs."""
    return _ONE if count == 1 else _HUNDRED if count <= 100 else _THOUSAND  # noqa: PLR2004 - above


def _in_queue(claim: HeldClaim) -> tuple[int, bool, int, int]:
    job = claim.job
    requested_at: Any = job.requested_at
    return (-job.priority, requested_at is None, requested_at or 0, job.job_id)
