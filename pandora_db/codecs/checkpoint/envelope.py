"""The envelope around each stored piece of a checkpoint: nothing is unpacked before it verifies."""

from __future__ import annotations

import struct
import threading
from hashlib import blake2b
from typing import Final, NamedTuple, NoReturn

from pandora_db.errors import CheckpointCorrupt
from pandora_db.models.limits import MAX_SEGMENT

SEGMENT: Final = 1
MANIFEST: Final = 2
FORMAT: Final = 1

_MAGIC = b"pDbC"
_ZSTD = 1
_LAST = 2
# magic, format, kind, flags, depth, children, state version, length uncompressed and as stored
_HEAD = struct.Struct(">4sBBBBIIII")
_PLACE = struct.Struct(">qq")
DIGEST: Final = 16
_FRONT = _HEAD.size + DIGEST
_KIND_AT = 5
_WORTH_TRYING = 512


class Place(NamedTuple):
    """Whose checkpoint it is; a blob of another job or stage does not verify."""

    job_id: int
    stage: int


class Opened(NamedTuple):
    """What an envelope held.

    Attributes:
        version: of the state, as its caller numbers it.
        children: how many of the segments before it it refers to.
        depth: how many containers stand in one another in it, its children included.
        last: it stands for the whole.
    """

    version: int
    children: int
    depth: int
    last: bool
    digest: bytes
    payload: bytes


def corrupt(reason: str, place: Place | None = None, *, damaged: bool = True) -> NoReturn:
    """Raise `CheckpointCorrupt`."""
    job_id, stage = place or (None, None)
    raise CheckpointCorrupt(reason, job_id=job_id, stage=stage, damaged=damaged)


def is_manifest(blob: bytes) -> bool:
    """Whether `blob` says that it is a manifest; whether it is intact is another question."""
    return blob[:4] == _MAGIC and blob[_KIND_AT : _KIND_AT + 1] == bytes((MANIFEST,))


def blob_digest(blob: bytes) -> bytes:
    """The checksum that stands in `blob`; unverified."""
    return bytes(blob[_HEAD.size : _FRONT])


def seal(
    payload: bytes,
    *,
    kind: int,
    version: int,
    place: Place,
    children: int = 0,
    depth: int = 0,
    last: bool = False,
) -> tuple[bytes, bytes]:
    """Put `payload` (at most 256 KiB) into an envelope: its checksum, and the whole blob."""
    stored, flags = payload, _LAST if last else 0
    if len(payload) >= _WORTH_TRYING and (codec := _zstd()):
        small = codec.compress(payload)
        if len(small) * 10 <= len(payload) * 9:
            stored, flags = small, flags | _ZSTD
    head = _HEAD.pack(
        _MAGIC, FORMAT, kind, flags, depth, children, version, len(payload), len(stored)
    )
    digest = _checksum(place, head, stored)
    return digest, b"".join((head, digest, stored))


def open_blob(blob: object, *, kind: int, place: Place) -> Opened:
    """Verify an envelope of that kind and take out its payload; raises `CheckpointCorrupt`."""
    if not isinstance(blob, bytes):
        corrupt("it is not bytes", place)
    if len(blob) < _FRONT:
        corrupt("it is cut short", place)
    if len(blob) > _FRONT + MAX_SEGMENT:
        corrupt(f"a part has {len(blob)} bytes; at most {_FRONT + MAX_SEGMENT} are allowed", place)
    magic, layout, found, flags, depth, children, version, length, size = _HEAD.unpack_from(blob)
    if magic != _MAGIC:
        corrupt("it does not begin as a checkpoint does", place)
    if layout > FORMAT:
        corrupt(
            f"it has format {layout}, this pandora_db knows {FORMAT}: upgrade it",
            place,
            damaged=False,
        )
    stored = blob[_FRONT:]
    digest = blob_digest(blob)
    if _checksum(place, blob[: _HEAD.size], stored) != digest:
        corrupt("its checksum is wrong: it is damaged, or of another job or stage", place)
    if layout != FORMAT or found != kind or flags & ~(_ZSTD | _LAST):
        corrupt("its header makes no sense", place)
    if size != len(stored) or length > MAX_SEGMENT:
        corrupt("its lengths are wrong", place)
    payload = _decompress(stored, length, place) if flags & _ZSTD else stored
    if len(payload) != length:
        corrupt("its lengths are wrong", place)
    return Opened(version, children, depth, bool(flags & _LAST), digest, payload)


def _checksum(place: Place, head: bytes, stored: bytes) -> bytes:
    hashed = blake2b(_PLACE.pack(*place), digest_size=DIGEST, person=b"pandora_db state")
    hashed.update(head)
    hashed.update(stored)
    return hashed.digest()


class _Zstd(threading.local):
    """Contexts of zstd, which one thread at a time may use; making one takes 20 µs."""

    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415 - an extra

        self.errors = zstandard.ZstdError
        self.size = zstandard.frame_content_size
        self.compress = zstandard.ZstdCompressor(level=3).compress
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=2 * MAX_SEGMENT)

    def decompress(self, data: bytes) -> bytes:
        return self._decompressor.decompress(data, allow_extra_data=False)


_codec: _Zstd | None = None
_missing = False


def _zstd() -> _Zstd | None:
    global _codec, _missing  # noqa: PLW0603 - imported when first needed, looked for once
    if _codec is None and not _missing:
        try:
            _codec = _Zstd()
        except ImportError:
            _missing = True
    return _codec


def _decompress(stored: bytes, length: int, place: Place) -> bytes:
    codec = _zstd()
    if codec is None:
        corrupt(
            "it is compressed, and zstandard is not installed: "
            "pip install '/path/to/pandora_db[zstd]'",
            place,
            damaged=False,
        )
    try:
        # The size in the frame decides how much memory is taken.
        payload = codec.decompress(stored) if codec.size(stored) == length else None
    except codec.errors:
        payload = None
    if payload is None:
        corrupt("its compressed part is not sound", place)
    return payload
