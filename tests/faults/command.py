"""The long forms' command line: `--long --json FILE --seed N`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import secrets
import sqlite3
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiosqlite
import asyncpg

from tests.support.databases import PostgresDatabases, migrate
from tests.support.provider import running_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Bench:
    """Where a long form runs: `sqlite()` and `postgres()` answer the URL of a new database."""

    def __init__(self, seed: int, stack: ExitStack, *, long: bool) -> None:
        self.seed = seed
        self.long = long
        self.server = stack.enter_context(running_server(os.environ))
        self._databases = PostgresDatabases(self.server)
        stack.callback(self._databases.close)
        self._stack = stack
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self._number = 0

    def sqlite(self, *, migrated: bool = True) -> str:
        """Make the URL of a file; without the schema there is no file yet."""
        self._number += 1
        url = f"sqlite:///{self._folder}/{self._number}.db"
        if migrated:
            migrate(url)
        return url

    def postgres(self, *, migrated: bool = True) -> str:
        """Make a database; its DSN."""
        return self._stack.enter_context(self._databases.fresh(migrated=migrated))


def main(work: Callable[[Bench], Awaitable[dict[str, Any]]]) -> None:
    """Run `work` as a program; its result is printed, and kept in FILE."""
    options = argparse.ArgumentParser()
    options.add_argument("--long", action="store_true")
    options.add_argument("--json", type=Path)
    options.add_argument("--seed", type=int, default=secrets.randbelow(2**31))
    chosen = options.parse_args()
    sys.stderr.write(f"seed {chosen.seed}\n")
    with ExitStack() as stack:
        bench = Bench(chosen.seed, stack, long=chosen.long)
        start = time.monotonic()
        found = asyncio.run(work(bench))  # type: ignore[arg-type]
        report = {
            "seed": chosen.seed,
            "long": chosen.long,
            "seconds": round(time.monotonic() - start, 1),
            "python": platform.python_version(),
            "sqlite": sqlite3.sqlite_version,
            "postgresql": bench.server.version,
            "asyncpg": asyncpg.__version__,
            "aiosqlite": aiosqlite.__version__,
            "processors": os.cpu_count(),
            **found,
        }
    text = json.dumps(report, indent=2, default=str) + "\n"
    sys.stdout.write(text)
    if chosen.json is not None:
        chosen.json.write_text(text)
