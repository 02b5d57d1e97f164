"""The database file: made whole or not at all, never over something that is already there."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from pandora_db.drivers.sqlite.errors import translate
from pandora_db.errors import ConnectionFailed, ForeignSchema, StorageDamaged

# "PnDB": how `file` and our own check know the format (PRAGMA application_id).
APPLICATION_ID = 0x506E4442
_LEAST = 512  # bytes of the smallest database that SQLite makes


def prepare(path: Path, *, folders: bool) -> None:
    """Check the file at `path`, or make a new one there, readable by its owner only.

    `folders` makes those above it that are missing. Runs in a thread: it touches the disk.

    Raises:
        StorageDamaged: the file is empty, cut short, or no SQLite database.
        ForeignSchema: it is the file of another application.
        ConnectionFailed: the folder is missing or cannot be made, or the path is no file.
    """
    try:
        if folders:
            path.parent.mkdir(parents=True, exist_ok=True)
        elif not path.parent.exists():
            raise ConnectionFailed(
                f"there is no folder {path.parent}: make it, or open with make_folders=True",
                target=str(path),
            )
        if not path.exists():
            _create(path)
        if not path.is_file():
            raise ConnectionFailed("the path is not a file", target=str(path))
        _check(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConnectionFailed(
            f"the database file cannot be used: {reason}", target=str(path)
        ) from error


def _create(path: Path) -> None:
    # A file of 0 bytes must never stand under the final name: another process would find it, and a
    # kill would leave it. So the database is made beside it and linked in.
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".new", dir=path.parent)
    os.close(handle)  # mkstemp made it 0600; the -wal and -shm files inherit that
    fresh = Path(name)
    try:
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("PRAGMA journal_mode = WAL")
        with suppress(FileExistsError):  # another process was faster: its file is as good
            try:
                os.link(fresh, path)
            except FileExistsError:
                raise
            except OSError:  # a file system without hard links
                if not path.exists():
                    fresh.rename(path)
        _sync(path.parent)
    except sqlite3.OperationalError as error:
        raise ConnectionFailed(
            f"the database file cannot be made: {error}", target=str(path)
        ) from error
    finally:
        for leftover in (fresh, Path(f"{name}-wal"), Path(f"{name}-shm"), Path(f"{name}-journal")):
            leftover.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _check(path: Path) -> None:
    size = path.stat().st_size
    if size == 0:
        raise StorageDamaged(
            f"{path} exists but is empty: it may have lost its content. "
            "Restore a backup, or delete the file to begin a new database"
        )
    if size < _LEAST:
        raise _no_database(path)
    try:
        application, page_size = _facts(path)
        torn = size % page_size
    except sqlite3.DatabaseError as error:
        primary = error.sqlite_errorcode & 0xFF
        if primary == sqlite3.SQLITE_NOTADB:
            raise _no_database(path) from error
        if primary != sqlite3.SQLITE_CORRUPT:
            raise translate(error, str(path)) from error
        application, torn = 0, True
    # With a WAL beside it the file may rightly lag behind; SQLite then judges page by page.
    wal = Path(f"{path}-wal")
    if torn and not (wal.exists() and wal.stat().st_size):
        raise StorageDamaged(
            f"{path} was cut short or is damaged: {size} bytes are left; restore a backup"
        )
    if application not in (0, APPLICATION_ID):
        raise ForeignSchema(
            f"{path} is the file of another application (application_id {application:#x}); "
            "it was left untouched, choose another file"
        )


def _no_database(path: Path) -> StorageDamaged:
    return StorageDamaged(f"{path} is not a SQLite database; it was left as it is")


def _facts(path: Path) -> tuple[int, int]:
    """Whose file it is and the size of its pages, read without a lock and touching nothing.

    By SQLite: whoever opens and closes the file besides takes away the locks that all connections
    of this process hold on it (POSIX), and the next process to close the file then deletes the WAL
    under them.
    """
    url = f"file:{quote(str(path))}?immutable=1"
    with closing(sqlite3.connect(url, uri=True)) as connection:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (page_size,) = connection.execute("PRAGMA page_size").fetchone()
        return application % 2**32, page_size
