"""Cancelling a call at a chosen await point of it."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Coroutine, Generator


class Moment(StrEnum):
    """When the cancellation comes, seen from the await point."""

    WAITING = "while it waits"
    ANSWERED = "when the answer is there, before the call has seen it"
    AGAIN = "there, and at every later await point"


class Cancellation(NamedTuple):
    """At which await point a call is cancelled (from 1), and when there."""

    at: int
    moment: Moment


class Stepped:
    """Awaits `work` and counts its await points; at point `at` (from 1) its task is cancelled."""

    def __init__(
        self, work: Coroutine[Any, Any, Any], at: int = 0, moment: Moment = Moment.WAITING
    ) -> None:
        self._work = work
        self._at = at
        self._moment = moment
        self.points = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        step = steps.__next__
        try:
            while True:
                waits_for = step()
                self.points += 1
                self._cancel(waits_for)
                try:
                    yield waits_for
                except BaseException as error:  # noqa: BLE001 - thrown into the work, as a task would
                    step = _throw(steps, error)
                else:
                    step = steps.__next__
        except StopIteration as end:
            return end.value

    def _cancel(self, waits_for: asyncio.Future[Any] | None) -> None:
        again = self._moment is Moment.AGAIN and self.points > self._at > 0
        if self.points != self._at and not again:
            return
        task = asyncio.current_task()
        assert task is not None
        if self._moment is Moment.ANSWERED and waits_for is not None:
            # Before the task's own callback: the task is cancelled with the answer at hand.
            waits_for.add_done_callback(lambda _: task.cancel())
        else:
            task.cancel()


def _throw(steps: Generator[Any, Any, Any], error: BaseException) -> Any:
    return lambda: steps.throw(error)


async def _drive(stepped: Stepped) -> Any:
    return await stepped
