"""The claims of an open transaction: no heartbeat can see them before the commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from pandora_db.models.status import Hold
from pandora_db.store.claim_cursor import ClaimCursor
from pandora_db.store.held_claim import HeldClaim
from pandora_db.store.leases import Leases

_LATE = 4  # when this part of what a lease outlasts a heartbeat by is gone, it is renewed at once


class PendingLeases(Leases):
    """Those of a caller's transaction, whose end nobody tells us."""

    lasting = False

    def __init__(self, parent: Leases) -> None:
        super().__init__(parent.settings, parent.origin, parent.owner)
        self.pipelines = parent.pipelines

    def adopt(self, claims: Iterable[HeldClaim]) -> None:
        """None is renewed before the commit; `renew_claims` on the handle takes them over."""

    def renewed(self, claims: Iterable[HeldClaim]) -> None:
        """These are no claims of this transaction: it leaves them as they are."""

    def ended(self, claim: HeldClaim) -> None:
        """Ended, unless the transaction is undone; until then nobody renews it."""
        claim.end()

    def lost(self, claim: HeldClaim, reason: str) -> None:
        """Nothing yet: what took the job may be undone with the transaction."""

    def asked(self, claim: HeldClaim, hold: Hold) -> None:
        """Nothing yet, likewise."""

    def cursor(self, key: object | None) -> ClaimCursor:
        """A transaction looks at the whole queue: what it skipped may be rolled back."""
        del key
        return ClaimCursor()

    async def unless_cancelled(
        self,
        taking: Coroutine[Any, Any, list[HeldClaim]],
        give_back: Callable[[list[HeldClaim]], Coroutine[Any, Any, None]],
    ) -> list[HeldClaim]:
        """The rollback that follows a cancellation gives everything back."""
        del give_back
        return await taking


class OwnPendingLeases(PendingLeases):
    """The same where the transaction is ours: its end is known, and tells each claim."""

    def __init__(self, parent: Leases) -> None:
        super().__init__(parent)
        self._parent = parent
        self._began = time.monotonic()
        self._made: list[HeldClaim] = []
        self._ended: list[HeldClaim] = []
        self._renewed: list[HeldClaim] = []

    def adopt(self, claims: Iterable[HeldClaim]) -> None:
        """Keep them for `over`."""
        self._made += claims

    def renewed(self, claims: Iterable[HeldClaim]) -> None:
        """The handle goes on renewing these, whatever becomes of the transaction."""
        self._renewed += claims

    def ended(self, claim: HeldClaim) -> None:
        """Keep it for `over`: the end of the transaction is that of the claim."""
        claim.end()
        claim.undecided = True
        self._ended.append(claim)

    def over(self, committed: bool | None) -> None:  # noqa: FBT001 - the verdict
        """Hand the claims over to the handle, or tell them what became of them.

        Where nobody knows (None), the heartbeat finds out, for those that were made and for those
        that were ended: a claim that does not count is told that it is lost.
        """
        for claim in self._ended:
            claim.undecided = False
            if committed:
                self._parent.ended(claim)
            else:
                claim.reopen()
        if committed is False:
            for claim in self._made:
                claim.lose("the transaction that made it was rolled back")
        self._parent.adopt(claim for claim in self._made + self._renewed if claim.alive)
        for claim in self._made + self._ended:  # those that go on have the keeper they had
            if isinstance(claim.keeper, Leases) and (committed is None or self._late(claim)):
                claim.keeper.on_late()
        # Whoever keeps the store of a transaction must not keep its claims alive.
        for claims in (self._made, self._ended, self._renewed):
            claims.clear()

    def _late(self, claim: HeldClaim) -> bool:
        """Whether much of its lease has passed in the transaction, where nobody could renew it."""
        spare = claim.lease - self.settings.heartbeat
        return claim.alive and time.monotonic() - self._began > spare / _LATE
