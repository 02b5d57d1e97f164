"""Where claims begin: at the head of the queue, unless that is seen to cost time."""

from __future__ import annotations

from itertools import count

from pandora_db import JobRow
from pandora_db.store.claim_cursor import ClaimCursor, place_of

numbers = count(1)
BEHIND = 0.0005


def rows(length: int) -> list[JobRow]:
    return [
        JobRow(next(numbers), "a", 50, 1, 1, None, "", "", 0, 0, 0, None, None, False)
        for _ in range(length)
    ]


class Queue:
    """A queue whose head costs `walk` seconds to find."""

    def __init__(self) -> None:
        self.cursor = ClaimCursor()
        self.now = 0.0
        self.walked = 0.0
        self.total = 0.0

    def claim(self, walk: float, limit: int = 10, found: int = 10) -> bool:
        """Claim once; whether it began at the head."""
        start = self.cursor.start(self.now)
        taken = 0.001 + (walk if start is None else 0.0)
        (last,) = rows(1)
        self.cursor.note(start, last, self.now, self.now + taken, full=found == limit)
        self.now += taken
        self.total += taken
        if start is None:
            self.walked += walk
        if self.cursor.is_suspicious:
            self.cursor.judge(BEHIND + walk, BEHIND)
        return start is None


def test_a_quick_queue_is_always_claimed_from_its_head() -> None:
    queue = Queue()
    assert all(queue.claim(0.0) for _ in range(1000))


def test_slow_claims_alone_do_not_move_the_start() -> None:
    cursor = ClaimCursor()
    for _ in range(100):
        assert cursor.start(0.0) is None
        cursor.note(None, rows(1)[0], 0.0, 0.5, full=True)
        if cursor.is_suspicious:
            cursor.judge(0.4, 0.4)  # the head costs no more than any other place


def test_walks_take_a_twentieth_of_the_time() -> None:
    queue = Queue()
    for _ in range(20_000):
        queue.claim(0.02)

    assert 0.02 < queue.walked / queue.total < 0.06


def test_a_queue_that_is_quick_again_is_claimed_from_its_head_again() -> None:
    queue = Queue()
    for _ in range(100):
        queue.claim(0.02)
    for _ in range(1000):
        queue.claim(0.0)

    assert all(queue.claim(0.0) for _ in range(10))


def test_what_finds_too_little_begins_at_the_head_next_time() -> None:
    queue = Queue()
    for _ in range(10):
        queue.claim(0.02)
    assert not queue.claim(0.02)
    queue.claim(0.02, found=3)

    assert queue.claim(0.02)


def test_a_job_without_a_time_is_no_place_to_begin() -> None:
    (row,) = rows(1)
    assert place_of(row) == (0, 50, row.job_id)
    assert place_of(row._replace(requested_at=None)) is None  # type: ignore[arg-type]
