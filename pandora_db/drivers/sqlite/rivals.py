"""Notices that somebody else writes to the file, where this SQLite makes that a risk."""

from __future__ import annotations

import logging
import sqlite3

log = logging.getLogger("pandora_db")


class Rivals:
    """Looks at the beginning of a write transaction, and warns once.

    `PRAGMA data_version` of the connection that writes moves when any other connection has written:
    of another process, or one of the caller's own.
    """

    __slots__ = ("_path", "_seen", "_version")

    def __init__(self, connection: sqlite3.Connection, path: str) -> None:
        self._path = path
        self._version = _version(connection)
        self._seen = False

    def look(self, connection: sqlite3.Connection) -> None:
        """Compare; in the thread of the connection, inside its transaction."""
        if self._seen or _version(connection) == self._version:
            return
        self._seen = True
        log.warning(
            "%s has a second writer, and SQLite %s can damage a WAL that two write at once: keep "
            "to one process per file, or use SQLite 3.51.3 or newer (3.50.7 and 3.44.6 will do)",
            self._path,
            sqlite3.sqlite_version,
        )


def _version(connection: sqlite3.Connection) -> object:
    cursor = connection.execute("PRAGMA data_version")
    try:
        return cursor.fetchone()[0]
    finally:
        cursor.close()
