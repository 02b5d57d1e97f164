"""Runs: packed values that become a segment together (content-defined chunking).

Where a run ends is decided by the values at its end, not by counting from the front: what is
inserted or removed in the middle of a long list leaves the runs after it as they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import AsyncIterator, Callable
from itertools import accumulate, islice
from typing import Any, NamedTuple
from zlib import crc32

# A run has at least the first, ends by 8 KiB later on average, and never exceeds the second by
# more than one value. Numbers are counted instead.
RUN_LEAST = 40_960
RUN_MOST = 98_304
RUN_CHANCE = 2**32 // 8_192
_NUMBERS_LEAST = 4_096
_NUMBERS_MOST = 8_192
BATCH = 256


class Sealed(NamedTuple):
    """A segment before it is numbered."""

    name: str
    digest: bytes
    blob: bytes


class Cut(NamedTuple):
    """A packed value or run, so many containers deep.

    Of its `parts`, which are sealed already, it names the digests of `refers`.
    """

    data: bytes
    depth: int
    parts: list[Sealed]
    refers: int


class Batch(NamedTuple):
    """Some packed values.

    Attributes:
        depth: holds for those that were not cut.
        extra: bytes that each of them counts for besides its own.
    """

    depth: int
    extra: int
    bodies: list[bytes | Cut]


async def make_runs(
    batches: AsyncIterator[Batch], header: Callable[[int], bytes]
) -> AsyncIterator[Cut]:
    """Values together until their bytes say that it is enough; what was cut keeps apart."""
    run = _Run(header)
    async for levels, extra, bodies in batches:
        for body in bodies:
            if run.bodies and isinstance(body, bytes) == bool(run.refers):
                yield run.end()
            if isinstance(body, bytes):
                data, deep = body, levels
            else:
                data, deep, parts, refers = body
                run.parts += parts
                run.refers += refers
            run.bodies.append(data)
            weight = len(data) + extra
            run.size += weight
            run.levels = max(run.levels, deep)
            if run.size >= RUN_LEAST and (
                run.size >= RUN_MOST or crc32(data) < weight * RUN_CHANCE
            ):
                yield run.end()
    if run.bodies:
        yield run.end()


class _Run:
    """A run that is being made."""

    __slots__ = ("_header", "bodies", "levels", "parts", "refers", "size")

    def __init__(self, header: Callable[[int], bytes]) -> None:
        self._header = header
        self._begin()

    def _begin(self) -> None:
        self.bodies: list[bytes] = []
        self.parts: list[Sealed] = []
        self.refers = self.size = self.levels = 0

    def end(self) -> Cut:
        data = self._header(len(self.bodies)) + b"".join(self.bodies)
        run = Cut(data, self.levels + 1, self.parts, self.refers)
        self._begin()
        return run


def bounds(values: list[Any], start: int) -> tuple[int, int]:
    """How many values a run that begins at `start` has at least and at most, by their end."""
    if not isinstance(values[start], str):
        return (
            min(start + _NUMBERS_LEAST, len(values)),
            min(start + _NUMBERS_MOST, len(values)),
        )
    most = start
    sizes = [0]
    while sizes[-1] < RUN_MOST // 2 and most < len(values):
        some = values[most : most + BATCH]
        sizes += islice(accumulate(map(len, some), initial=sizes[-1]), 1, None)
        most += len(some)
    return start + bisect_left(sizes, RUN_LEAST, 0, len(sizes) - 1), most


async def one_batch(batch: Batch) -> AsyncIterator[Batch]:
    """A single batch, as the runs are made of."""
    yield batch


def data_of(body: bytes | Cut) -> bytes:
    """The packed bytes."""
    return body if isinstance(body, bytes) else body.data
