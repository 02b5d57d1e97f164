"""SQLite: one connection that writes, one that reads, each whole operation in one thread hop."""

from pandora_db.drivers.sqlite.driver import SqliteDriver

__all__ = ["SqliteDriver"]
