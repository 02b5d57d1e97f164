"""The caps on what may be stored, the same on every dialect.

Text is counted in characters, JSON in bytes of UTF-8. One value above its cap is refused with
`InvalidInput` before any SQL runs; only an error text and a log line are cut instead.
"""

from __future__ import annotations

MAX_ID = 2**63 - 1
"""Highest id: job, message, channel, guild and author ids are 0 … 2^63-1."""

MAX_SECONDS = 253_402_300_799
"""Latest time in unix seconds: 9999-12-31 23:59:59 UTC."""

MAX_AUTHOR = 256
MAX_KEY = 256
"""`external_id`, `idempotency_key`, `name` and `concurrency_key`."""

MAX_LINK = 8_192
MAX_PATH = 4_096
MAX_STEP = 256
"""`current_step` and `output_kind`."""

MAX_ERROR = 16_384
"""An error or a reason is cut here, not refused: a failure must always be storable."""

MAX_LOG = 4_096
"""Characters of a log line, which is cut likewise."""

MAX_LOGS = 1_000
"""Log lines that are kept of each job: the newest."""

MAX_SKIPPED = 2**31 - 1
"""Log lines that one call may leave out."""

MAX_JSON = 1_048_576
MAX_JSON_DEPTH = 64

MAX_PROGRESS = 262_144
"""Bytes of the data of a `Progress`: the rest of `progress_data` is for the notes of the job."""

MAX_JSON_FLOAT = 1e16
"""Floats in JSON stay below this: JSONB keeps numbers as decimals, and larger floats come back as
integers that no longer equal what was stored."""

MAX_PARAMS = 1_048_576
"""Bytes of `params`."""

MIN_PRIORITY = -32_767
MAX_PRIORITY = 32_767
"""Priority is a SMALLINT whose negative stands in the queue's index; higher goes first."""

MAX_ATTEMPTS = 32_767
DEFAULT_ATTEMPTS = 5
"""How often a job that says nothing else is tried at a stage."""

MAX_TAGS = 32
MAX_TAG = 64
"""Tags that a job may ask of its worker, and the characters of each."""

MAX_LIMIT = 100_000
"""Rows that one query may return."""

MAX_OFFSET = MAX_ID
MAX_BULK = 1_000_000
"""Jobs that one `insert_jobs` may carry, and ids that one `get_jobs_by_ids` may ask for."""

MAX_CHECKPOINT = 16 * 1_048_576
"""Bytes of one checkpoint, packed and before compression."""

MAX_VERSION = 2**31 - 1
"""Version of the shape of a checkpoint's state, or of a registered job."""

MAX_CHECKPOINT_DEPTH = 64
MAX_CHECKPOINT_ITEMS = 2_000_000
"""Values in one checkpoint; a container counts for four, since it takes that much memory."""

MAX_CHECKPOINT_KEY = 16_384
"""Characters of a key, and of a path, in a checkpoint."""

MAX_CHECKPOINT_INT = 65_536
"""Bits of an int in a checkpoint."""

MAX_SEGMENT = 262_144
"""Bytes of one segment of a checkpoint, before compression."""

MAX_SEGMENTS = 4_096
"""Segments of one checkpoint."""
