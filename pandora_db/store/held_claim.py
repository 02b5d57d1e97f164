"""A claim as the library keeps it: who renews it, what it has saved, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, cast

from pandora_db.errors import InvalidInput
from pandora_db.models.checks import refuse
from pandora_db.models.claim import Claim
from pandora_db.models.status import Hold

if TYPE_CHECKING:
    from pandora_db.models.job_row import JobRow
    from pandora_db.models.stage import StageCode

_MAX_CLAIMS = 100_000


class Grant(NamedTuple):
    """What the claims of one call have in common."""

    stage: StageCode
    lease: float
    origin: str


class HeldClaim(Claim):
    """What every `Claim` is inside the library.

    Attributes:
        origin: the database that it was made on.
        keeper: the register whose handle renews its lease.
        deadline: the `time.monotonic()` from when on it is not renewed any more.
        saved: what `Checkpoints` knows of what is stored.
        shared: whether a save under it was made where it may be undone.
        last_saved: the number of the newest checkpoint that was tried.
        ending: ends that are under way: meanwhile nobody takes its absence for a loss.
        undecided: it was ended in a transaction of ours that is still open.
        settled: it has ended, and no rollback can undo that.
    """

    __slots__ = (
        "_saving", "deadline", "ending", "keeper", "last_saved", "origin", "saved", "settled",
        "shared", "undecided",
    )  # fmt: skip

    def __init__(self, job: JobRow, token: int, owner: str, grant: Grant) -> None:
        # By position, as thousands are made at once: names double what that costs.
        super().__init__(job, token, grant.stage, owner, grant.lease)
        self.origin = grant.origin
        self.keeper: object = None
        self.deadline: float | None = None
        self.saved: object = None
        self.shared = False
        self.last_saved = 0
        self.ending = 0
        self.undecided = False
        self.settled = False
        self._saving: asyncio.Lock | None = None

    @property
    def saving(self) -> asyncio.Lock:
        """Held while a checkpoint is saved: they are numbered one after the other."""
        if self._saving is None:
            self._saving = asyncio.Lock()
        return self._saving

    @property
    def _is_open(self) -> bool:
        return self.alive and not self.ending

    def lose(self, reason: str) -> None:
        """See `Claim.lose`; an end that is under way may be why nothing was found."""
        if not self.ending:
            super().lose(reason)

    def held(self, hold: Hold) -> None:
        """Note what a renewal found to be asked of the job; called in the event loop."""
        if hold is not self.hold:
            self.hold = hold
            if self.listener is not None:
                self.listener()

    def end(self) -> None:
        """Note that it ended well; a transaction may still be undone."""
        self._ended = True

    def reopen(self) -> None:
        """Its end was undone, with the transaction that it was written in."""
        self._ended = self.settled = False


def check_claim(value: object, field: str = "claim") -> HeldClaim:
    """A claim of ours; raises `InvalidInput`."""
    if not isinstance(value, HeldClaim):
        refuse(field, value, "a Claim, as claim_jobs() gives it")
    return value


def check_claims(values: object) -> list[HeldClaim]:
    """Several of them; raises `InvalidInput`."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        refuse("claims", values, "several claims")
    given = cast("Iterable[object]", values)
    claims = [check_claim(value, "claims") for value in islice(given, _MAX_CLAIMS + 1)]
    if len(claims) > _MAX_CLAIMS:
        raise InvalidInput(f"claims has more than {_MAX_CLAIMS:,} of them", field="claims")
    return claims
