"""Real states, and contents that must be refused although their checksum is right."""

from __future__ import annotations

import random
import struct
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import zstandard
from msgpack import ExtType, packb

from pandora_db import Stage
from pandora_db.codecs.checkpoint import Place, envelope, types
from pandora_db.models.limits import MAX_SEGMENT
from tests.support.checkpoints import SAMPLES, Clip

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE = Place(42, 3)
PRIME = 2**61 - 1  # ints that differ by multiples of it have one hash


def real_states(seed: int, *, small: bool = False) -> list[Any]:
    """States of many kinds; the larger ones are stored in several segments."""
    chance = random.Random(seed)
    records = [
        {"path": f"/srv/{n}/{chance.randbytes(9).hex()}.mkv", "size": chance.randrange(2**40)}
        for n in range(1_000)
    ]
    states: list[Any] = [
        *SAMPLES,
        {"next": 12, "done": set(range(9)), "at": datetime(2026, 11, 20, tzinfo=UTC)},
        {"stage": Stage.ENCODING, "segments": records[:20], "fps": [23.976] * 10},
        {"files": records[:100], "done": sorted(chance.sample(range(10_000), 9_000))},
        {"ids": [UUID(int=chance.getrandbits(128)) for _ in range(100)]},
    ]
    large: list[Any] = [
        {"files": records * 3, "note": "x"},
        [chance.random() for _ in range(20_000)],
        {"text": "äöü" * 50_000, "bytes": chance.randbytes(100_000)},
        {n: str(n) for n in range(15_000)},
    ]
    return states if small else states + large


def forge(
    stored: bytes,
    *,
    length: int | None = None,
    size: int | None = None,
    kind: int = envelope.SEGMENT,
    flags: int = envelope._LAST,
    depth: int = 64,
    children: int = 0,
    layout: int = envelope.FORMAT,
) -> bytes:
    """An envelope around anything, with the checksum that belongs to it."""
    length = len(stored) if length is None else length
    size = len(stored) if size is None else size
    head = envelope._HEAD.pack(b"pDbC", layout, kind, flags, depth, children, 1, length, size)
    return head + envelope._checksum(PLACE, head, stored) + stored


def _ext(code: int, data: bytes) -> bytes:
    return packb(ExtType(code, data))


def _declared() -> Iterator[tuple[str, bytes]]:
    """Lengths without what they announce."""
    for code in (0xC6, 0xC9, 0xDB, 0xDD, 0xDF):
        for length in (2**32 - 1, 2**31, 2**28, MAX_SEGMENT, 1):
            yield f"{code:x} of {length}", bytes((code,)) + length.to_bytes(4, "big")
    for code in (0xC5, 0xC8, 0xDA, 0xDC, 0xDE):
        yield f"{code:x} of 65535", bytes((code,)) + b"\xff\xff\0"
    for levels in (60, 900, 50_000):
        head = b"\xdd" + MAX_SEGMENT.to_bytes(4, "big")
        yield f"{levels} long lists in one another", (head * levels)[:MAX_SEGMENT]
        yield f"{levels} long dicts in one another", (b"\xdf\0\1\0\0\xa1a" * levels)[:MAX_SEGMENT]
        inner = (head * levels)[: MAX_SEGMENT - 20]
        yield f"{levels} long lists in a tuple", _ext(types.TUPLE, inner)
    yield "a list of 16 with 15 values", b"\xdc\0\x10" + b"\xc0" * 15


def _nested() -> Iterator[tuple[str, bytes]]:
    for levels in (65, 511, 512, 1_023, 1_024, 1_025, 100_000):
        yield f"{levels} lists", b"\x91" * levels + b"\xc0"
        yield f"{levels} dicts", (b"\x81\xa1a" * levels)[: MAX_SEGMENT - 4] + b"\xc0"
    for code in (types.TUPLE, types.SET, types.FROZENSET, types.MODEL, types.CUT, types.PAIRS):
        for levels in (65, 70, 1_000, 20_000):
            data = b"\x90"
            for _ in range(levels):
                if len(data) > MAX_SEGMENT - 10:
                    break
                data = b"\x91" + _ext(code, data)
            yield f"{levels} of extension {code} in one another", data
    lists = b"\x91" * 40 + _ext(types.TUPLE, b"\x91" * 40 + b"\xc0")
    yield "40 lists around a tuple of 40 lists", lists


def _extensions() -> Iterator[tuple[str, bytes]]:
    known = {*types.DECODERS, *range(types.TUPLE, types.CUT + 1)}
    for code in (*sorted(set(range(128)) - known), -1, -2, -128):
        for size in (0, 1, 4, 8, 12, 16, 100):
            data = bytes(size)
            raw = _ext(code, data) if code >= 0 else struct.pack("BBb", 0xC7, size, code) + data
            yield f"unknown extension {code} of {size}", raw
    yield "a timestamp of 2^62 s", b"\xc7\x0c\xff" + bytes(4) + (2**62).to_bytes(8, "big")
    shapes: list[Any] = [
        None, 1, "x", [], [1], ["a"], [1, 2], ["a:b", 1], [None] * 3, {"a": 1}, [[]] * 3,
        [1, None, b"x"], [1, None, bytes(16)], [1, None, 5], ["x", "y", "z"], ["os:system", [], {}],
        ["builtins:dict", "x"], ["x" * 100_000, "y"], ["\0", 1], [7, 8, bytes(16 * 3)],
    ]  # fmt: skip
    data_of = [packb(shape) for shape in shapes]
    data_of += [b"\xff" * n for n in (1, 2, 3, 5, 7, 10, 15, 21, 40)] + [b"", b"\xc1", b"\x92\xc0"]
    # Those of single values are in `_singles`; any list is a tuple, and of some a set can be made.
    singles = {*types.DECODERS, types.INT_LIST, types.INT_SET, types.INT_FROZENSET} - {types.ENUM}
    lists = {types.TUPLE, types.SET, types.FROZENSET}
    for code in sorted(known):
        for number, data in enumerate(data_of):
            legal = code in singles or (
                code in lists and (number < len(shapes) and isinstance(shapes[number], list))
            )
            legal |= code == types.PAIRS and data == packb([1, 2])
            legal |= code == types.UUID_LIST and len(data) % 16 == 0
            if not legal:
                yield f"extension {code} with {data[:12].hex()}…", _ext(code, data)


def _singles() -> Iterator[tuple[str, bytes]]:
    """Payloads of single values and packed ints that their encoders do not make."""
    bad: dict[int, list[bytes]] = {
        types.INT: [b"", b"\1", bytes(20), (2**64 - 1).to_bytes(9, "big"), b"\x7f" * 9_000],
        types.DATETIME: [
            b"", bytes(8), b"\x7f" * 9, bytes(8) + b"\2", b"\x7f" * 17, bytes(9) + b"\x7f" * 8,
        ],
        types.DATE: [b"", bytes(4), b"\xff" * 4, bytes(5)],
        types.TIME: [
            b"", b"\xff" * 8 + b"\0", (86_400_000_000).to_bytes(8, "big") + b"\0", b"\xff" * 17,
        ],
        types.TIMEDELTA: [b"", b"\xff" * 12, struct.pack(">iII", 0, 86_400, 0), b"\x7f" * 12],
        types.UUID_: [b"", bytes(15), bytes(17)],
        types.DECIMAL: [
            b"", b"x", b" 1", b"1_0", "٣".encode(), b"1" * 5_000, b"\xff", b"1e5", b"+1",
        ],
        types.PATH: [b"", b"\3a", b"\0\xff", b"\0\xed\xb2\x80"],
        types.ENUM: [
            b"", packb(["enum:Enum", "x"]), packb(["pandora_db.models.stage:Stage", "NONE"]),
            packb(["pandora_db.models.stage:Stage", 1]), packb([b"x", "y"]),
            packb(["re:RegexFlag", "A"]),
        ],
        types.UUID_LIST: [bytes(15), bytes(17)],
    }  # fmt: skip
    for code in (types.INT_LIST, types.INT_SET, types.INT_FROZENSET):
        first = bytes(8)
        bad[code] = [
            b"", bytes(8), b"\0" + first, b"\0" + first + b"\x7f", b"\0" + first + b"\x80\0",
            b"\0" + first + b"\xff" * 8_193, b"\0" + first + b"\xff" * 200_000,
            b"\3" + first + bytes(3),
            b"\2" + first + bytes(3), b"\4" + first + bytes(6), b"\x08" + first + b"\xff" * 16,
            b"\1" + first + bytes(65_536), b"\1" + (2**63 - 1).to_bytes(8, "big") + b"\1",
            b"\xff" + first,
        ]  # fmt: skip
    bad[types.INT_SET].append(b"\1" + bytes(8) + b"\0")
    for code, payloads in bad.items():
        for data in payloads:
            yield f"extension {code} with {data[:12].hex()}… of {len(data)}", _ext(code, data)


def _keys() -> Iterator[tuple[str, bytes]]:
    twice = b"\x82\xa1a\1\xa1a\2"
    yield "a key twice", twice
    yield "a key twice, inside", b"\x91\x81\xa1b" + twice
    yield "a key twice in a tuple", _ext(types.TUPLE, b"\x91" + twice)
    yield "a key twice in two forms", b"\x82\xa1a\1\xd9\1a\2"
    yield "a number twice", _ext(types.PAIRS, b"\x94\1\2\1\2")
    yield "a number twice, as int and bool", _ext(types.PAIRS, b"\x94\1\2\xc3\2")
    yield "a member twice", _ext(types.SET, b"\x92\1\1")
    yield "a member twice, as int and float", _ext(types.SET, b"\x92\1" + packb(1.0))
    yield "a list in a set", _ext(types.SET, b"\x91\x90")
    yield "pairs without numbers", _ext(types.PAIRS, b"\x92\xa1a\2")
    yield "an odd pair", _ext(types.PAIRS, b"\x93\1\2\3")
    for key in (
        b"\1",
        b"\xc0",
        b"\xc3",
        packb(1.5),
        b"\x90",
        b"\x80",
        _ext(types.UUID_, bytes(16)),
    ):
        yield f"the key {key.hex()}", b"\x81" + key + b"\1"
        yield (
            f"the key {key[:9].hex()} in pairs",
            _ext(types.PAIRS, b"\x94" + key + b"\1\1\1" * (key != b"\1")),
        )
    for text in (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80"):
        raw = bytes((0xA0 | len(text),)) + text
        yield f"text {text.hex()}", raw
        yield f"a key {text.hex()}", b"\x81" + raw + b"\1"


def _tables() -> Iterator[tuple[str, bytes]]:
    clip = f"{Clip.__module__}:{Clip.__qualname__}"
    for table in (
        [], [None], [None, []], [None, ["a"]], [None, [], [1]], [None, ["a", "a"], [1], [2]],
        [None, ["a"], [1], [2]], [None, ["a", "b"], [1, 2], [3]], [None, [1], [1]],
        [None, ["a"], {"b": 1}], [None, "a", [1]], [None, ["a"], "b"], [1, ["a"], [1]],
        [["os:system", [[]]], ["path"], ["x"]], [[clip, []], ["path"], ["x"]],
        [[clip, [[], []]], ["path"], ["x"]], [[clip, [[]]], ["frames"], ["no number"]],
        [[clip, [1]], ["path"], ["x"]], [None, ["a"], [None] * 70_000],
    ):  # fmt: skip
        yield f"a table {table!r:.40}", _ext(types.TABLE, packb(table))


def _form() -> Iterator[tuple[str, bytes]]:
    yield "nothing", b""
    yield "0xc1", b"\xc1"
    yield "0xc1 inside", b"\x92\1\xc1"
    yield "two values", b"\1\2"
    yield "a value and much more", b"\1" + bytes(100_000)
    yield "trailing in a tuple", _ext(types.TUPLE, b"\x91\1\2")


def _collisions() -> Iterator[tuple[str, bytes]]:
    """Hashes made to be equal: a set of them takes quadratic time."""
    ints = [_ext(types.INT, (PRIME * n).to_bytes(17, "big")) for n in range(16, 12_000)]
    head = b"\xdc" + len(ints).to_bytes(2, "big")
    yield "colliding ints", _ext(types.SET, head + b"".join(ints))
    pairs = b"\xdc" + (2 * len(ints)).to_bytes(2, "big") + b"".join(one + b"\0" for one in ints)
    yield "colliding keys", _ext(types.PAIRS, pairs)
    uuids = [_ext(types.UUID_, (PRIME * n).to_bytes(16, "big")) for n in range(12_000)]
    head = b"\xdc" + len(uuids).to_bytes(2, "big")
    yield "colliding UUIDs", _ext(types.FROZENSET, head + b"".join(uuids))
    numbers = [_ext(types.DECIMAL, str(Decimal(PRIME * n)).encode()) for n in range(1, 8_000)]
    head = b"\xdc" + len(numbers).to_bytes(2, "big")
    yield "colliding Decimals", _ext(types.SET, head + b"".join(numbers))


def _envelopes() -> Iterator[tuple[str, list[bytes]]]:
    """Wrong headers and compressed parts."""
    good = packb([1, "x"])
    zeros = bytes(2**30 >> 4)
    compress = zstandard.ZstdCompressor(level=3).compress
    unsized = zstandard.ZstdCompressor(level=3, write_content_size=False).compress
    bomb = compress(zeros)
    last, packed = envelope._LAST, envelope._LAST | envelope._ZSTD
    text = packb("x" * 5_000)
    yield "no segments", []
    yield "a format of the future", [forge(good, layout=2)]
    yield "format 0", [forge(good, layout=0)]
    yield "an unknown kind", [forge(good, kind=3)]
    yield "a manifest", [forge(bytes(28), kind=envelope.MANIFEST, flags=0)]
    yield "an unknown flag", [forge(good, flags=last | 128)]
    yield "not the last one", [forge(good, flags=0)]
    yield "two last ones", [forge(good), forge(good)]
    yield "deeper than it says", [forge(good, depth=0)]
    yield "a depth of 65", [forge(good, depth=65)]
    yield "a depth of 255", [forge(b"\x91" * 200 + b"\1", depth=255)]
    yield "children that are not there", [forge(good, children=1)]
    yield "4 billion children", [forge(good, children=2**32 - 1)]
    yield "a length too long", [forge(good, length=len(good) + 1)]
    yield "a size too long", [forge(good, size=2**32 - 1)]
    yield "a length of 4 GB", [forge(good, length=2**32 - 1)]
    yield "a blob of 1 MB", [forge(packb(bytes(2**20)))]
    yield "a segment of 256 KiB and a byte", [forge(packb(bytes(MAX_SEGMENT - 4)))]
    yield "too many segments", [forge(good, flags=0)] * 5_000
    for what, stored, length in (
        ("a bomb", bomb, MAX_SEGMENT),
        ("a bomb that owns up", bomb, len(zeros)),
        ("a bomb without its size", unsized(zeros), MAX_SEGMENT),
        ("a part without its size", unsized(text), len(text)),
        ("a wrong size", compress(text), len(text) - 1),
        ("two frames", compress(text) + compress(text), len(text)),
        ("something after the frame", compress(text) + b"x", len(text)),
        ("a frame to be skipped", b"\x50\x2a\x4d\x18\4\0\0\0abcd", 4),
        ("half a frame", compress(text)[:-5], len(text)),
        ("no frame", b"x" * 100, 100),
        ("an empty one", b"", 0),
    ):
        yield f"zstd: {what}", [forge(stored, length=length, flags=packed)]


def _cut_states() -> Iterator[tuple[str, list[bytes]]]:
    """Several segments that do not belong together."""

    def cut(kind: object, meta: object, *digests: bytes) -> bytes:
        return forge(_ext(types.CUT, packb([kind, meta, b"".join(digests)])), children=len(digests))

    def part(content: bytes) -> tuple[bytes, bytes]:
        blob = forge(content, flags=0)
        return blob, envelope.blob_digest(blob)

    one, two = part(packb([1])), part(packb({"a": 1}))
    text, empty = part(packb(b"\xff\xfe")), part(packb(None))
    for kind in (0, 10, -1, 2**60, None, "x", 1.5, [1]):
        yield f"cut in the way {kind}", [one[0], cut(kind, None, one[1])]
    for kind in range(types.CUT_LIST, types.CUT_BYTES + 1):
        yield f"{kind}: a digest is wrong", [one[0], cut(kind, None, bytes(16))]
        yield f"{kind}: half a digest", [one[0], cut(kind, None, one[1][:8])]
        yield f"{kind}: of None", [empty[0], cut(kind, None, empty[1])]
        yield f"{kind}: of list and dict", [one[0], two[0], cut(kind, None, one[1], two[1])]
    yield "text that is none", [text[0], cut(types.CUT_TEXT, None, text[1])]
    yield "the same key twice", [two[0], two[0], cut(types.CUT_DICT, None, two[1], two[1])]
    yield "the same member twice", [one[0], one[0], cut(types.CUT_SET, None, one[1], one[1])]
    yield "an unknown model", [two[0], cut(types.CUT_MODEL, ["os:system", []], two[1])]
    yield "a model without a name", [two[0], cut(types.CUT_MODEL, None, two[1])]
    yield "one segment too many", [one[0], two[0], cut(types.CUT_LIST, None, one[1])]
    yield "out of order", [two[0], one[0], cut(types.CUT_LIST, None, one[1], two[1])]
    chain = [part(packb([1]))]
    for _ in range(70):
        blob = forge(
            b"\x91" + _ext(types.CUT, packb([types.CUT_LIST, None, chain[-1][1]])),
            flags=0,
            children=1,
        )
        chain.append((blob, envelope.blob_digest(blob)))
    yield "70 cuts in one another", [*(blob for blob, _ in chain), cut(1, None, chain[-1][1])]
    for what, value in (("dicts", b"\x80"), ("lists", b"\x90"), ("values", b"\xc0")):
        count = MAX_SEGMENT - 5
        blob, digest = part(b"\xdd" + count.to_bytes(4, "big") + value * count)
        yield f"16 MiB of empty {what}", [blob] * 63 + [cut(types.CUT_LIST, None, *[digest] * 63)]
    count = 30_000
    tuples = (b"\xdc" + count.to_bytes(2, "big")) + _ext(types.TUPLE, b"\x90") * count
    blob, digest = part(tuples)
    yield "many empty tuples", [blob] * 20 + [cut(types.CUT_LIST, None, *[digest] * 20)]
    bits = b"\1" + bytes(8) + b"\1" * 65_000
    many = b"\x93" + _ext(types.INT_LIST, bits) * 3
    blob, digest = part(many)
    yield "many packed ints", [blob] * 60 + [cut(types.CUT_LIST, None, *[digest] * 60)]


_CONTENTS = (_declared, _nested, _extensions, _singles, _keys, _tables, _form, _collisions)
CASES: list[tuple[str, list[bytes]]] = [
    *((what, [forge(data[:MAX_SEGMENT])]) for make in _CONTENTS for what, data in make()),
    *_envelopes(),
    *_cut_states(),
]
