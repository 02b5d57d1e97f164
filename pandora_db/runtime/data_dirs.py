"""The folders of jobs below one root, and their removal."""

from __future__ import annotations

import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pandora_db.db import internals
from pandora_db.models.checks import check_text, path_text
from pandora_db.models.limits import MAX_PATH

if TYPE_CHECKING:
    from pandora_db.db import JobDb

_MARKS = ".pandora_db"
_GONE = ".gone"
_MARK = re.compile(r"[0-9]{1,18}")
"""A job's id; what else lies there was put there by somebody else."""


def check_root(value: object) -> Path | None:
    """The root, the same wherever this process goes; raises `InvalidInput`."""
    if value is None:
        return None
    return Path(check_text(path_text(value), "data_root", MAX_PATH, least=1)).resolve()


async def dirs_of(db: JobDb, root: Path) -> DataDirs:
    """The folders of the jobs of a database, whatever it is called by whoever opens it.

    Raises:
        PandoraDbError: the database cannot be read.
    """
    ((birth,),) = await internals(db).driver.read("database_birth", {})
    return DataDirs(root, str(birth))


class DataDirs:
    """A folder for each job that asks for one.

    A mark beside them, `.pandora_db/<job_id>`, says of which database the job is: only what is
    marked with this one alone is ever removed, whatever else lies below the root.
    """

    def __init__(self, root: Path, database: str) -> None:
        self._root = root
        self._marks = root / _MARKS
        self._database = database

    def make(self, job_id: int) -> Path:
        """The folder of a job."""
        mark = self._marks / str(job_id)
        if self._database not in _lines(mark):
            self._marks.mkdir(parents=True, exist_ok=True)
            with mark.open("a", encoding="utf-8") as file:
                file.write(f"{self._database}\n")
        folder = self._root / str(job_id)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def marked(self) -> dict[int, float]:
        """The jobs of this database that had a folder made, and how many seconds ago."""
        found: dict[int, float] = {}
        now = time.time()
        with suppress(FileNotFoundError):
            for mark in self._marks.iterdir():
                if _MARK.fullmatch(mark.name) and _lines(mark) == {self._database}:
                    with suppress(OSError):  # another process removed it
                        found[int(mark.name)] = now - mark.stat().st_mtime
        return found

    def hide(self, job_id: int) -> None:
        """Take the folder of a job away at once; `sweep` does the rest, now or after a kill."""
        with suppress(FileNotFoundError):
            folder = self._root / str(job_id)
            folder.rename(self._marks / f"{job_id}.{secrets.token_hex(4)}{_GONE}")
        (self._marks / str(job_id)).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what was hidden, by whichever process."""
        for hidden in self._marks.glob(f"*{_GONE}"):
            if hidden.is_dir() and not hidden.is_symlink():
                shutil.rmtree(hidden, ignore_errors=True)
            else:
                with suppress(OSError):
                    hidden.unlink()


def _lines(path: Path) -> set[str]:
    try:
        return set(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError):  # none, or none of ours
        return set()
