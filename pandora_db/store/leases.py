"""The claims that a handle holds: what the heartbeat renews."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Callable, Coroutine, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import ref

from pandora_db.config import Settings
from pandora_db.drivers.base import Row
from pandora_db.errors import InvalidInput, LeaseLost
from pandora_db.models.job_type import JobType
from pandora_db.models.status import Hold
from pandora_db.store.claim_cursor import ClaimCursor
from pandora_db.store.held_claim import HeldClaim

_CURSORS = 100  # sets of filters whose place in the queue is kept
_TIDY = 256
"""Claims, at least, that are added before those that are over are let go."""


def new_owner() -> str:
    """A worker's name that never comes again: a process id alone is soon used anew."""
    host = socket.gethostname()[:64] or "localhost"
    return f"{host}:{os.getpid()}:{secrets.token_hex(4)}"


class Leases:
    """The register of a handle's claims.

    It holds them weakly: a claim that nobody has in hand any more is not renewed, and its job is
    recovered. The heartbeat reads it from another thread.
    """

    lasting = True
    """Whether what is done here stays done; a transaction may be undone."""

    def __init__(self, settings: Settings, origin: str, owner: str | None = None) -> None:
        self.settings = settings
        self.origin = origin
        self.owner = owner or new_owner()
        # Job types whose stages stand in the database; no schema is made without those of Encode.
        self.pipelines: set[int] = {JobType.ENCODE.value}
        self.on_adopt: Callable[[], None] = lambda: None
        self.on_late: Callable[[], None] = lambda: None
        # In the path of every claim: a WeakSet with a lock costs ten times as much. Only the event
        # loop changes it; the heartbeat's thread reads a copy.
        self._claims: list[ref[HeldClaim]] = []
        self._enough = _TIDY
        self._cursors: dict[object, ClaimCursor] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False

    def adopt(self, claims: Iterable[HeldClaim]) -> None:
        """Renew the leases of these from now on."""
        added = dict.fromkeys(claim for claim in claims if claim.keeper is not self)
        if not added:
            return
        if self._closed:  # these were under way
            _tell_closed(added)
            return
        deadline = self.settings.deadline
        for claim in added:
            claim.keeper = self
            if deadline is not None and claim.deadline is None:
                claim.deadline = time.monotonic() + deadline
        self._claims += map(ref, added)
        if len(self._claims) > self._enough:
            self._claims = [kept for kept in self._claims if self._keeps(kept())]
            self._enough = 2 * len(self._claims) + _TIDY
        self.on_adopt()

    def renewed(self, claims: Iterable[HeldClaim]) -> None:
        """Go on renewing these, whoever made them."""
        self.adopt(claims)

    def ended(self, claim: HeldClaim) -> None:
        """Note the end of a claim: its lease is renewed no more."""
        claim.end()
        claim.settled = True

    def lost(self, claim: HeldClaim, reason: str) -> None:
        """Note what a write under the claim met: it no longer counts."""
        claim.lose(reason)

    def asked(self, claim: HeldClaim, hold: Hold) -> None:
        """Note what is asked of the job."""
        claim.held(hold)

    def note(self, claims: Iterable[HeldClaim], found: Iterable[Row]) -> list[HeldClaim]:
        """The claims that `found` (job, token, hold) tells of; the others are lost."""
        holds = {(job_id, token): hold for job_id, token, hold in found}
        kept: list[HeldClaim] = []
        for claim in claims:
            hold = holds.get((claim.job_id, claim.token))
            if hold is None:
                self.lost(claim, "its job was taken from it")
            else:
                self.asked(claim, Hold(hold))
                kept.append(claim)
        return kept

    @contextmanager
    def noting_loss(self, claim: HeldClaim | None) -> Generator[None]:
        """Note it when the block meets `LeaseLost`; without a claim, nothing."""
        try:
            yield
        except LeaseLost as error:
            if claim is not None:
                self.lost(claim, error.reason)
            raise

    def held(self) -> list[HeldClaim]:
        """The claims to renew, ordered by job; may be called from any thread."""
        # One that another handle had meanwhile stands there twice.
        known = dict.fromkeys(kept() for kept in self._claims.copy())
        claims = [claim for claim in known if claim and claim.keeper is self and claim.alive]
        return sorted(claims, key=lambda claim: claim.job_id)

    def _keeps(self, claim: HeldClaim | None) -> bool:
        """Whether it may still have to be renewed: an end may be undone with its transaction."""
        if claim is None or claim.keeper is not self:
            return False
        if claim.settled or claim.lost:
            claim.keeper = None
            return False
        return True

    def check(self, claim: HeldClaim) -> None:
        """Refuse a claim of another database."""
        if claim.origin != self.origin:
            raise InvalidInput(
                f"the claim on job {claim.job_id} was made on {claim.origin}, not on {self.origin}",
                field="claim",
            )

    def cursor(self, key: object | None) -> ClaimCursor:
        """Where claims with these filters go on; without a key, at the head each time."""
        cursor = self._cursors.get(key)
        if cursor is None:
            cursor = ClaimCursor()
            if key is not None and len(self._cursors) < _CURSORS:
                self._cursors[key] = cursor
        return cursor

    async def unless_cancelled(
        self,
        taking: Coroutine[Any, Any, list[HeldClaim]],
        give_back: Callable[[list[HeldClaim]], Coroutine[Any, Any, None]],
    ) -> list[HeldClaim]:
        """Await `taking`; whatever it takes after the caller was cancelled is given back."""
        task = asyncio.ensure_future(taking)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._tasks.add(late := asyncio.ensure_future(_give_back(task, give_back)))
            late.add_done_callback(self._tasks.discard)
            raise

    async def settle(self) -> None:
        """Wait until nothing is being given back; what is cut off runs out by itself."""
        try:
            while self._tasks:
                await asyncio.wait(self._tasks)
        except asyncio.CancelledError:
            for task in self._tasks:
                task.cancel()
            raise

    def close(self) -> None:
        """Tell the claims that are left, and those to come, that nobody renews them any more."""
        self._closed = True
        _tell_closed(self.held())


def _tell_closed(claims: Iterable[HeldClaim]) -> None:
    for claim in claims:
        claim.lose("the handle that renewed its lease was closed")


def lease_args(claims: Sequence[HeldClaim]) -> dict[str, Any]:
    """The arguments of renew_leases and find_leases."""
    return {
        "job_ids": [claim.job_id for claim in claims],
        "tokens": [claim.token for claim in claims],
        "seconds": [claim.lease for claim in claims],
    }


async def _give_back(
    taking: asyncio.Task[list[HeldClaim]],
    give_back: Callable[[list[HeldClaim]], Coroutine[Any, Any, None]],
) -> None:
    await asyncio.wait([taking])
    if not taking.cancelled() and taking.exception() is None:
        await give_back(taking.result())
