"""Renewing leases (P5), in a thread of its own: a busy event loop or pool must not cost a lease."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import groupby

from pandora_db.config import Settings
from pandora_db.drivers.base import Pulse
from pandora_db.errors import PandoraDbError
from pandora_db.models.checks import counted
from pandora_db.services.outage import Outage
from pandora_db.store.held_claim import HeldClaim
from pandora_db.store.leases import Leases, lease_args

log = logging.getLogger("pandora_db")

_TICKS = 4  # turns of the event loop that are looked for in each `stall`
_TRIES = 4
_SOON = 10  # a failed heartbeat is repeated that much sooner
_LEAST = 0.1


class Heartbeat:
    """Renews the known pairs of job and token of one handle, never "all of this owner".

    A claim whose answer was lost is no known pair: it runs out. When the event loop has not turned
    for `stall` seconds nobody could notice a loss, so nothing is renewed until it turns again.
    """

    def __init__(self, pulse: Callable[[], Pulse], leases: Leases, settings: Settings) -> None:
        self._pulse = pulse
        self._leases = leases
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._thread: threading.Thread | None = None
        self._stop = False
        self._wake = threading.Event()
        self._ticked = time.monotonic()
        self._ticker: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._stalled = False
        self._outage = Outage()

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._thread is not None or self._stop:
            return
        self._tick()
        # A daemon: a forgotten close() must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name="pandora_db heartbeat", daemon=True)
        self._thread.start()

    def hurry(self) -> None:
        """Renew now: there are claims that nobody could renew for a while."""
        self._wake.set()

    async def stop(self) -> None:
        """End; the leases that are left run out."""
        self._stop = True
        self._wake.set()
        if self._ticker is not None:
            self._ticker.cancel()
        if self._thread is not None:
            await self._ended.wait()

    def _tick(self) -> None:
        self._ticked = time.monotonic()
        self._ticker = self._loop.call_later(self._settings.stall / _TICKS, self._tick)

    def _run(self) -> None:
        pulse = self._pulse()
        pause = self._settings.heartbeat
        try:
            while True:
                self._wake.wait(pause)
                self._wake.clear()
                if self._stop or self._loop.is_closed():
                    break
                try:
                    done = self._beat(pulse)
                except Exception:  # one beat may be missed, not all that follow
                    level = self._outage.failed(logging.ERROR)
                    log.log(level, "the leases could not be renewed", exc_info=True)
                    done = False
                pause = self._settings.heartbeat / (1 if done else _SOON)
        finally:
            pulse.close()
            with suppress(RuntimeError):  # the loop was closed, and close() forgotten
                self._loop.call_soon_threadsafe(self._ended.set)

    def _beat(self, pulse: Pulse) -> bool:
        """Renew what is held; False when that is worth another try soon."""
        claims = self._within_deadline(self._leases.held())
        if not claims:
            if (seconds := self._outage.over()) is not None:
                log.info("after %.1f s no lease is left that could not be renewed", seconds)
            return True
        stalled = time.monotonic() - self._ticked > self._settings.stall
        if stalled:
            if not self._stalled:
                log.warning(
                    "the event loop has not turned for %g s: leases are not renewed until it does; "
                    "run_blocking() keeps blocking work off it",
                    self._settings.stall,
                )
            self._stalled = True
            return False
        if self._stalled:
            log.info("the event loop turns again: leases are renewed")
        self._stalled = False
        # Not all are given up for a short lease; the long ones have the time to connect anew.
        claims.sort(key=self._patience, reverse=True)
        renewed = 0
        unsure = False
        failed: list[tuple[int, PandoraDbError]] = []
        for patience, alike in groupby(claims, self._patience):
            group = list(alike)
            try:
                count, sure = self._renew(pulse, group, patience)
            except PandoraDbError as error:
                failed.append((len(group), error))
            else:
                renewed += count
                unsure |= not sure
        self._report(renewed, failed)
        if sum(count for count, _ in failed) == len(claims):
            pulse.close()  # a line that has gone silent is given up for a new one
        return not (failed or unsure)

    def _report(self, renewed: int, failed: list[tuple[int, PandoraDbError]]) -> None:
        if failed:
            leases = counted(sum(count for count, _ in failed), "lease")
            level = self._outage.failed()
            log.log(level, "%s could not be renewed: %s; trying again", leases, failed[0][1])
        elif (seconds := self._outage.over()) is not None:
            log.info("after %.1f s %s could be renewed again", seconds, counted(renewed, "lease"))

    def _patience(self, claim: HeldClaim) -> float:
        """Seconds for an answer; leases that are about as long go together.

        Of what the lease lasts beyond the next heartbeat, so that there is time to try again.
        """
        spare = (claim.lease - self._settings.heartbeat) / _TRIES
        return _LEAST if spare <= _LEAST else 2.0 ** math.floor(math.log2(spare))

    def _renew(self, pulse: Pulse, claims: list[HeldClaim], patience: float) -> tuple[int, bool]:
        """How many could be, and whether those are all that count."""
        renewed = pulse.run("renew_leases", lease_args(claims), patience)
        found = list(renewed)
        if len(found) < len(claims):  # lost, or held by another transaction just now
            found += pulse.run("find_leases", lease_args(claims), patience)
        self._tell(self._leases.note, claims, found)
        return len(renewed), len({tuple(row[:2]) for row in found}) == len(renewed)

    def _within_deadline(self, claims: list[HeldClaim]) -> list[HeldClaim]:
        now = time.monotonic()
        late = {claim for claim in claims if claim.deadline is not None and claim.deadline < now}
        for claim in late:
            self._tell(claim.lose, "its deadline has passed")
        return [claim for claim in claims if claim not in late]

    def _tell(self, call: Callable[..., object], *args: object) -> None:
        if not self._stop:
            try:
                self._loop.call_soon_threadsafe(call, *args)
            except RuntimeError:  # the loop was closed, and close() forgotten
                self._stop = True
