"""A state → its segments.

What packs to 64 KiB is one segment, and up to 128 KiB if it is quick to unpack. Anything larger is
cut: a list into runs of values, a dict or model into runs of fields, text and bytes into pieces,
and a value that is itself too large for a run is cut in the same way first. In its place stands a
*cut*: the digests of its parts. So the last segment, of the whole state, vouches for all others,
and a part that did not change keeps its digest wherever it stands.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final, NoReturn
from zlib import crc32

from pydantic import BaseModel

from pandora_db.codecs.checkpoint.classes import model_fields
from pandora_db.codecs.checkpoint.envelope import SEGMENT, Place, seal
from pandora_db.codecs.checkpoint.ints import may_ascend, pack_ints
from pandora_db.codecs.checkpoint.pack import (
    NOTHING,
    Packing,
    collide,
    extension,
    list_header,
    map_header,
    model_head,
)
from pandora_db.codecs.checkpoint.refusal import Where, refuse_odd, step
from pandora_db.codecs.checkpoint.runs import (
    BATCH,
    RUN_CHANCE,
    RUN_MOST,
    Batch,
    Cut,
    Sealed,
    bounds,
    data_of,
    make_runs,
    one_batch,
)
from pandora_db.codecs.checkpoint.survey import CONTAINER_ITEMS, NATIVE_KEYS, Survey
from pandora_db.codecs.checkpoint.types import (
    CUT,
    CUT_BYTES,
    CUT_DICT,
    CUT_FROZENSET,
    CUT_LIST,
    CUT_MODEL,
    CUT_PAIRS,
    CUT_SET,
    CUT_TEXT,
    CUT_TUPLE,
    INT_LIST,
    Odd,
)
from pandora_db.errors import InvalidInput
from pandora_db.models.checks import check_int
from pandora_db.models.limits import (
    MAX_CHECKPOINT,
    MAX_CHECKPOINT_DEPTH,
    MAX_CHECKPOINT_ITEMS,
    MAX_SEGMENTS,
    MAX_VERSION,
)

ONE_SEGMENT: Final = 65_536
"""A value in a run that packs to more is cut; what packs to less is one segment."""

WHOLE: Final = 131_072
"""A state that packs to more is cut, and one that takes as long to pack as so many bytes."""

_SHORT_TEXT = 4_096
_EXTENSION = 48  # a value of an extension type takes as long to unpack as so many bytes of others
_FEW = 16
_SLICE = 0.001
_STATE = "state"
_CUTTABLE: Final = frozenset({list, tuple, set, frozenset, dict, str, bytes})
_NUMERIC: Final = frozenset({int, float, bool})
_LISTS: dict[type, int] = {list: CUT_LIST, tuple: CUT_TUPLE}
_SETS: dict[type, int] = {set: CUT_SET, frozenset: CUT_FROZENSET}
_INT64 = (-(2**63), 2**63 - 1)
_NAME = 64


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a checkpoint as it is stored.

    Attributes:
        name: the field of the state that it belongs to; empty for what is of no single field.
        part: which of the segments of that name.
        digest: the checksum in the blob; equal digests mean equal blobs, and the other way round.
        blob: envelope and payload, 256 KiB and a header at most.
    """

    name: str
    part: int
    digest: bytes
    blob: bytes


async def split_state(state: object, *, version: int, place: Place) -> list[Segment]:
    """Pack `state` into segments, in order; lets others run every millisecond or so.

    The state must not change meanwhile.

    Raises:
        InvalidInput: something in it cannot be stored; the message has the path to it.
    """
    check_int(version, "version", 0, MAX_VERSION)
    numbers: dict[str, count[int]] = {}
    return [
        Segment(name, next(numbers.setdefault(name, count())), digest, blob)
        for name, digest, blob in await _Splitter(version, place).split(state)
    ]


class _OfThread(threading.local):
    """Packers have buffers, which are not made for every state; no state packs across an await."""

    def __init__(self) -> None:
        self.packing = Packing()


_of_thread = _OfThread()


class _Splitter:
    def __init__(self, version: int, place: Place) -> None:
        self._version = version
        self._place = place
        self._packing = _of_thread.packing
        self._size = 0
        self._items = 0
        self._since = time.perf_counter()

    async def split(self, state: object) -> list[Sealed]:
        whole = await self._whole(state)
        parts = [*whole.parts, self._seal("", whole, last=True)]
        if len(parts) > MAX_SEGMENTS:
            raise InvalidInput(f"{_STATE} has too many large parts", field=_STATE)
        return parts

    async def _whole(self, state: object) -> Cut:
        at = Where(0, _root)
        found = self._survey([state], at, WHOLE)
        if found.weight <= WHOLE:
            before = self._packing.extensions
            (data,) = self._pack([state], at, found)
            extra = (self._packing.extensions - before) * _EXTENSION
            small = len(data) <= ONE_SEGMENT or len(data) + extra <= WHOLE
            if small or not _can_cut(state):
                self._count(found.items)
                return Cut(data, found.levels, [], 0)
        return await self._cut(state, _STATE, 0, "")

    async def _cut(self, value: Any, path: str, depth: int, name: str) -> Cut:  # noqa: ANN401
        """Seal `value` in parts; what stands in its place."""
        kind, meta, runs = self._cutting(value, path, depth, name)
        parts: list[Sealed] = []
        digests: list[bytes] = []
        deepest = 0
        async for run in runs:
            parts += run.parts
            parts.append(self._seal(name, run))
            digests.append(parts[-1].digest)
            deepest = max(deepest, run.depth)
            await self._rest()
        self._count(CONTAINER_ITEMS)
        data = self._packing.pack_plain([kind, meta, b"".join(digests)])
        body = self._packing.pack_plain(extension(CUT, data))
        return Cut(body, deepest, parts, len(digests))

    def _cutting(
        self,
        value: Any,  # noqa: ANN401
        path: str,
        depth: int,
        name: str,
    ) -> tuple[int, object, AsyncIterator[Cut]]:
        here = Where(depth, lambda _: path)  # pyright: ignore[reportUnknownLambdaType]
        if isinstance(value, str | bytes):
            return (
                CUT_TEXT if isinstance(value, str) else CUT_BYTES,
                None,
                self._pieces(value, here),
            )
        if depth >= MAX_CHECKPOINT_DEPTH:
            refuse_odd([value], here, self._packing)
        if isinstance(value, BaseModel):
            fields = self._fields(model_fields(value), path, depth, name, model=True)
            return CUT_MODEL, self._head(value, here), fields
        exact: type = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind := _LISTS.get(exact):
            return kind, None, self._values(list(value), path, depth, name)
        if kind := _SETS.get(exact):
            self._check_hashes(value, here)
            return kind, None, self._members(list(value), path, depth, name)
        pairs = not set(map(type, value)) <= NATIVE_KEYS
        if pairs:
            self._check_hashes(value, here)
        fields = self._fields(value.copy(), path, depth, name, pairs=pairs)
        return CUT_PAIRS if pairs else CUT_DICT, None, fields

    async def _pieces(self, value: str | bytes, here: Where) -> AsyncIterator[Cut]:
        data = self._utf8(value, here) if isinstance(value, str) else value
        if len(data) > MAX_CHECKPOINT:
            self._refuse_size()
        for start in range(0, len(data), ONE_SEGMENT):
            piece = data[start : start + ONE_SEGMENT]
            yield Cut(self._packing.pack_plain(piece), 0, [], 0)

    async def _values(
        self, values: list[Any], path: str, depth: int, name: str
    ) -> AsyncIterator[Cut]:
        if await self._alike(values):
            runs = self._flat(values, path, depth)
        else:
            runs = make_runs(self._bodies(values, path, depth, name), list_header)
        async for run in runs:
            yield run

    async def _members(
        self, values: list[Any], path: str, depth: int, name: str
    ) -> AsyncIterator[Cut]:
        if set(map(type, values)) == {int}:
            values.sort()
            if _INT64[0] <= values[0] <= values[-1] <= _INT64[1]:
                async for run in self._flat(values, path, depth):
                    yield run
                return
        deepest = extra = 0
        bodies: list[bytes | Cut] = []
        async for batch in self._bodies(values, path, depth, name):
            deepest = max(deepest, batch.depth)
            extra = max(extra, batch.extra)
            bodies += batch.bodies
        bodies.sort(key=data_of)
        async for run in make_runs(one_batch(Batch(deepest, extra, bodies)), list_header):
            yield run

    async def _fields(
        self,
        fields: dict[Any, Any],
        path: str,
        depth: int,
        name: str,
        *,
        pairs: bool = False,
        model: bool = False,
    ) -> AsyncIterator[Cut]:
        values: list[Any] = list(fields.values())
        bodies = self._bodies(values, path, depth, name, list(fields), model=model)
        async for run in make_runs(bodies, _pairs_header if pairs else map_header):
            yield run

    async def _bodies(
        self,
        values: list[Any],
        path: str,
        depth: int,
        name: str,
        keys: list[Any] | None = None,
        *,
        model: bool = False,
    ) -> AsyncIterator[Batch]:
        """The values packed one by one, each behind its key; those too large for a run are cut."""
        for start in range(0, len(values), BATCH):
            batch = values[start : start + BATCH]
            names = None if keys is None else keys[start : start + BATCH]
            before = self._packing.extensions
            found = None
            if names is None:
                at = Where(depth + 1, partial(_index, path, start))
                found = self._survey(batch, at)
                heads = [b""] * len(batch)
            else:
                at = Where(depth + 1, partial(_field, path, names, model=model))
                here = Where(depth, lambda _: path)  # pyright: ignore[reportUnknownLambdaType]
                # Of a few fields one at least is large, or the whole would not have been cut.
                few = len(names) <= _FEW
                fields = dict.fromkeys(names) if few else dict(zip(names, batch, strict=True))
                keyed = self._survey([fields], here)
                found = None if few else keyed
                heads = list(map(self._packing.pack_plain, names))
            if found is not None and found.weight <= ONE_SEGMENT:
                levels = found.levels - (names is not None)
                packed: list[bytes | None] = [*self._pack(batch, at, found)]
            else:
                levels = 0
                packed = []
                for i, value in enumerate(batch):
                    data, deep = self._pack_small(value, at, i)
                    packed.append(data)
                    levels = max(levels, deep)
                    await self._rest()
            extra = (self._packing.extensions - before) * _EXTENSION // len(batch)
            bodies: list[bytes | Cut] = []
            for i, (head, data) in enumerate(zip(heads, packed, strict=True)):
                if data is not None and (len(data) <= ONE_SEGMENT or not _can_cut(batch[i])):
                    bodies.append(head + data)
                    continue
                inner = name if names is None or depth else str(names[i])[:_NAME]
                cut = await self._cut(batch[i], at.path(i), depth + 1, inner)
                bodies.append(cut._replace(data=head + cut.data))
            yield Batch(levels, extra, bodies)
            await self._rest()

    def _pack_small(self, value: object, at: Where, index: int) -> tuple[bytes | None, int]:
        """The bytes of a value and its depth; None when it is too large."""
        alone = Where(at.depth, lambda _: at.path(index))  # pyright: ignore[reportUnknownLambdaType]
        found = self._survey([value], alone)
        if found.weight > ONE_SEGMENT:
            return None, 0
        return self._pack([value], alone, found)[0], found.levels

    async def _alike(self, values: list[Any]) -> bool:
        """Whether all are numbers, or all are short texts, so that a run is packed at once."""
        kinds: set[type] = set()
        for start in range(0, len(values), ONE_SEGMENT):
            some = values[start : start + ONE_SEGMENT]
            kinds |= set(map(type, some))
            if not kinds <= _NUMERIC and (kinds != {str} or max(map(len, some)) > _SHORT_TEXT):
                return False
            await self._rest()
        return True

    async def _flat(self, values: list[Any], path: str, depth: int) -> AsyncIterator[Cut]:
        """Runs of values that are alike."""
        start = 0
        while start < len(values):
            least, most = bounds(values, start)
            end, data = most, None
            with suppress(UnicodeEncodeError):
                end = self._end(values, least, most)
                data = self._pack_flat(values[start:end])
            if data is None:
                at = Where(depth + 1, partial(_index, path, start))
                refuse_odd(values[start:most], at, self._packing)
            self._count(end - start)
            if len(data) <= RUN_MOST:
                yield Cut(data, 1, [], 0)
            else:
                # Ints may be long ones, and characters take up to four bytes: these are and do.
                bodies = [self._packing.pack_plain(value) for value in values[start:end]]
                async for part in make_runs(one_batch(Batch(0, 0, [*bodies])), list_header):
                    yield part
            start = end

    def _end(self, values: list[Any], least: int, most: int) -> int:
        """Where the run ends: behind the first value from `least` on whose checksum is low."""
        for end in range(least, most):
            value = values[end - 1]
            data = value.encode() if isinstance(value, str) else self._packing.pack_plain(value)
            if crc32(data) < len(data) * RUN_CHANCE:
                return end
        return most

    def _pack_flat(self, run: list[Any]) -> bytes:
        if may_ascend(run) and set(map(type, run)) == {int}:
            ints = pack_ints(run)
            if ints is not None:
                return self._packing.pack_plain(extension(INT_LIST, ints))
        return self._packing.pack_plain(run)

    def _head(self, value: BaseModel, here: Where) -> tuple[str, list[str]]:
        with suppress(Odd):
            return model_head(value)
        return refuse_odd([value], here, self._packing)

    def _utf8(self, text: str, here: Where) -> bytes:
        with suppress(UnicodeEncodeError):
            return text.encode()
        return refuse_odd([text], here, self._packing)

    def _check_hashes(self, value: Collection[object], here: Where) -> None:
        if collide(value, len(value)):
            refuse_odd([value], here, self._packing)

    def _survey(self, values: list[Any], at: Where, room: int = ONE_SEGMENT) -> Survey:
        # Out of the handler, so that no error of ours drags one along that holds a value.
        found = None
        with suppress(Odd):
            found = Survey(values, at.depth, room)
        if found is None:
            refuse_odd(values, at, self._packing)
        if found.weight <= room != WHOLE:
            self._count(found.items)
        return found

    def _pack(self, values: list[Any], at: Where, found: Survey) -> list[bytes]:
        self._packing.survey = found
        self._packing.texts = False
        try:
            with suppress(Odd, ValueError, OverflowError, RuntimeError):
                packed = list(map(self._packing.pack, values))
                if self._packing.texts:
                    Survey(values, at.depth, MAX_CHECKPOINT, exact=True)
                return packed
        finally:
            self._packing.survey = NOTHING
        return refuse_odd(values, at, self._packing)

    def _seal(self, name: str, body: Cut, *, last: bool = False) -> Sealed:
        self._size += len(body.data)
        if self._size > MAX_CHECKPOINT:
            self._refuse_size()
        digest, blob = seal(
            body.data,
            kind=SEGMENT,
            version=self._version,
            place=self._place,
            children=body.refers,
            depth=body.depth,
            last=last,
        )
        return Sealed(name, digest, blob)

    def _count(self, items: int) -> None:
        self._items += items
        if self._items > MAX_CHECKPOINT_ITEMS:
            raise InvalidInput(
                f"{_STATE} has too many values; expected at most {MAX_CHECKPOINT_ITEMS}, "
                f"where a container counts for {CONTAINER_ITEMS}",
                field=_STATE,
            )

    def _refuse_size(self) -> NoReturn:
        raise InvalidInput(
            f"{_STATE} is too large; expected at most {MAX_CHECKPOINT} bytes when packed",
            field=_STATE,
        )

    async def _rest(self) -> None:
        if time.perf_counter() - self._since > _SLICE:
            await asyncio.sleep(0)
            self._since = time.perf_counter()


def _pairs_header(count: int) -> bytes:
    return list_header(2 * count)


def _root(_index: int) -> str:
    return _STATE


def _can_cut(value: object) -> bool:
    return type(value) in _CUTTABLE or isinstance(value, BaseModel)


def _index(path: str, start: int, index: int) -> str:
    return f"{path}[{start + index}]"


def _field(path: str, names: Sequence[object], index: int, *, model: bool) -> str:
    return step(path, names[index], model=model)
