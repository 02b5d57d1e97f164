"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import sqlite3
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg

from benchmarks.raw_postgres import connect_arguments

_PACKAGES = ("pandora-db", "aiosqlite", "asyncpg", "pydantic", "uvloop")


async def machine(folder: Path, postgres: str | None) -> dict[str, Any]:
    """Processor, versions, settings of the server, load, and the time of one fdatasync."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "postgresql": await _server(postgres) if postgres else None,
        "fdatasync_ms": round(_sync_time(folder / "sync"), 3),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _sync_time(path: Path) -> float:
    """Milliseconds of a write of 4 KB that is on disk."""
    times = []
    handle = os.open(path, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(200):
            start = time.perf_counter()
            os.write(handle, b"\0" * 4096)
            os.fdatasync(handle)
            times.append(time.perf_counter() - start)
    finally:
        os.close(handle)
    return median(times) * 1000


async def _server(dsn: str) -> dict[str, str]:
    connection = await asyncpg.connect(**connect_arguments(dsn))
    try:
        names = ("server_version", "synchronous_commit", "fsync", "shared_buffers")
        return {name: await connection.fetchval(f"SHOW {name}") for name in names}
    finally:
        await connection.close()
