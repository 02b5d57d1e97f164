"""What a PostgreSQL server tells of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg

from pandora_db.models.health import Health, PoolUse

_LONG_TRANSACTION = 300.0
"""Seconds after which an open transaction keeps vacuum from its work."""


def read_health(facts: Sequence[Any], pool: PoolUse) -> Health:
    """Make of the row of `server_facts` what a person wants to know."""
    version, synchronous, fsync, full_page_writes, size, oldest, standby = facts
    warnings: list[str] = []
    if synchronous == "off":
        warnings.append("synchronous_commit is off: a crash loses the last acknowledged writes")
    for name, value in (("fsync", fsync), ("full_page_writes", full_page_writes)):
        if value == "off":
            warnings.append(f"{name} is off: a power cut may damage the whole cluster")
    if standby:
        warnings.append("the server is a standby: it accepts no writes")
    if oldest is not None and oldest > _LONG_TRANSACTION:
        warnings.append(
            f"a transaction has been open for {oldest:.0f} s: vacuum cannot clean up behind it"
        )
    durable = synchronous != "off" and fsync == "on"
    return Health(
        dialect="postgres",
        server_version=version,
        driver_version=f"asyncpg {asyncpg.__version__}",
        schema_version=None,
        known_schema_version=0,
        durable=durable,
        durability=(
            f"every acknowledged write survives a crash (synchronous_commit={synchronous})"
            if durable
            else "the last acknowledged writes may be lost in a crash"
        ),
        synchronous=synchronous,
        size_bytes=size,
        oldest_transaction_seconds=oldest,
        pool=pool,
        warnings=warnings,
    )
