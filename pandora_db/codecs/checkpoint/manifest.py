"""The list of where the segments of a checkpoint are kept."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from pandora_db.codecs.checkpoint.envelope import MANIFEST, Place, corrupt, open_blob, seal
from pandora_db.models.checks import check_int
from pandora_db.models.limits import MAX_ID, MAX_SEGMENTS, MAX_VERSION

_ENTRY = struct.Struct(">QI16s")


class Entry(NamedTuple):
    """Where the store keeps a segment: the checkpoint that brought it, and its number there."""

    seq: int
    part: int
    digest: bytes


def encode_manifest(entries: Sequence[Entry], *, version: int, place: Place) -> bytes:
    """The blob that lists the segments, in the order in which `join_state` wants them."""
    check_int(version, "version", 0, MAX_VERSION)
    check_int(len(entries), "entries", 1, MAX_SEGMENTS)
    payload = b"".join(_ENTRY.pack(*entry) for entry in entries)
    return seal(payload, kind=MANIFEST, version=version, place=place)[1]


def decode_manifest(blob: bytes, place: Place) -> list[Entry]:
    """The entries of a manifest; raises `CheckpointCorrupt`."""
    payload = open_blob(blob, kind=MANIFEST, place=place).payload
    if not payload or len(payload) % _ENTRY.size or len(payload) > MAX_SEGMENTS * _ENTRY.size:
        corrupt("its list of segments is out of form", place)
    entries = [Entry(*entry) for entry in _ENTRY.iter_unpack(payload)]
    if any(entry.seq > MAX_ID for entry in entries):
        corrupt("its list of segments is out of form", place)
    return entries
