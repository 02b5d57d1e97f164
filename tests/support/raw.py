"""SQL by a driver that is not ours, against the database of a test: the other program."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any

import psycopg


class Raw:
    """`raw("SELECT … WHERE job_id = %s", 7)` answers a list of tuples; each call commits by itself.

    Parameters are written `%s` on both dialects. `url` is what the test's database is opened by.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.path = url.removeprefix("sqlite:///") if url.startswith("sqlite:") else None

    def __call__(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement; its rows, or [] when it has none."""
        if self.path is None:
            with psycopg.connect(self.url, autocommit=True) as connection:
                cursor = connection.execute(statement.encode(), parameters or None)
                return cursor.fetchall() if cursor.description else []
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            return connection.execute(statement.replace("%s", "?"), parameters).fetchall()

    def script(self, statements: str) -> None:
        """Run several statements, separated by semicolons."""
        if self.path is None:
            with psycopg.connect(self.url, autocommit=True) as connection:
                connection.execute(statements.encode())
            return
        with closing(sqlite3.connect(self.path, isolation_level=None)) as connection:
            connection.executescript(statements)
