"""Checkpoints: the state of a job at a stage ↔ the blobs that are stored.

    state ─ survey (what is in it) ─ pack (MessagePack and extension types)
          ─ split (segments) ─ envelope (zstd, checksum) ─ blobs
    blobs ─ envelope ─ join ─ state

A large value is cut by content-defined chunking; each piece is a segment, and the last segment
names the others by their digests. A stored format is never changed, only followed by one with a
higher number.
"""

from __future__ import annotations

from pandora_db.codecs.checkpoint.envelope import Place, blob_digest, is_manifest
from pandora_db.codecs.checkpoint.join import join_state
from pandora_db.codecs.checkpoint.manifest import Entry, decode_manifest, encode_manifest
from pandora_db.codecs.checkpoint.split import Segment, split_state

__all__ = [
    "Entry",
    "Place",
    "Segment",
    "blob_digest",
    "decode_manifest",
    "encode_manifest",
    "is_manifest",
    "join_state",
    "split_state",
]
