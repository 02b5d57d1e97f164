"""`Seeker`: a worker that waits, as the reader of its handle knows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandora_db.services.lookout import Lookout


class Seeker:
    """Somebody who takes jobs at some stages, and is to be told when one comes to wait there."""

    __slots__ = ("_call", "_lookout", "_missed", "seeking", "stages")

    def __init__(self, lookout: Lookout, stages: frozenset[int], call: Callable[[], None]) -> None:
        self.stages = stages
        self._call = call
        self.seeking = True
        self._missed = False
        self._lookout = lookout

    def hear(self) -> None:
        """A job has come; who rests is told as soon as it seeks again."""
        if self.seeking:
            self._call()
        else:
            self._missed = True

    def answer(self) -> None:
        """It looks: it is told only of what comes from now on."""
        self._missed = False

    def seek(self) -> None:
        """It has found less than it could take."""
        self.seeking = True
        if self._missed:
            self._missed = False
            self._call()
        if self._lookout.resting:
            self._lookout.ring()

    def rest(self) -> None:
        """It has enough to do: nobody need look on its behalf."""
        self.seeking = False

    def end(self) -> None:
        """Tell it no more."""
        if self in self._lookout.seekers:
            self._lookout.seekers.remove(self)
        self._lookout.ring()
