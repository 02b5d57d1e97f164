"""Checkpoints: the state of a job at a stage ↔ the blobs that are stored.

    state ─ checkpoint_survey (what is in it) ─ checkpoint_pack (MessagePack and extension types)
          ─ checkpoint_split (segments) ─ checkpoint_envelope (zstd, checksum) ─ blobs
    blobs ─ checkpoint_envelope ─ checkpoint_join ─ state

A stored format is never changed, only followed by one with a higher number.
"""

from __future__ import annotations

from pandora_db.codecs.checkpoint_envelope import Place, blob_digest, is_manifest
from pandora_db.codecs.checkpoint_join import join_state
from pandora_db.codecs.checkpoint_manifest import Entry, decode_manifest, encode_manifest
from pandora_db.codecs.checkpoint_split import Segment, split_state

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
