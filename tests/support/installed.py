"""A private PostgreSQL server from the binaries that are installed on this machine.

Unlike that of the wheel it has contrib's amcheck, and its files can be checked once it is down.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from psycopg.conninfo import make_conninfo

from tests.support.provider import server_version

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS = {
    "listen_addresses": "", "max_connections": "100", "max_wal_size": "256MB",
}  # fmt: skip


def find_binaries() -> Path | None:
    """The folder of the newest installed server's programs; None where there is none."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if (program := shutil.which("initdb")) is not None:
        found.append(Path(program).resolve().parent)
    return max(found, key=_version, default=None)


def _version(binaries: Path) -> int:
    return int(binaries.parent.name) if binaries.parent.name.isdigit() else 0


class Installed:
    """A running server.

    Attributes:
        dsn: a superuser's, of its maintenance database.
        data: where its files are.
        version: such as "15.4".
    """

    def __init__(self, binaries: Path, data: Path) -> None:
        self._binaries = binaries
        self.data = data
        self.dsn = make_conninfo(host=str(data), user="postgres", dbname="postgres")
        self.version = ""

    def start(self) -> None:
        """Make the files, with checksums, and start."""
        self._run("initdb", "--data-checksums", "--auth=trust", "--username=postgres")
        settings = _SETTINGS | {"unix_socket_directories": str(self.data)}
        with (self.data / "postgresql.auto.conf").open("a") as configuration:
            configuration.writelines(f"{key} = '{value}'\n" for key, value in settings.items())
        self._run("pg_ctl", "--wait", f"--log={self.data / 'log'}", "start")
        self.version = server_version(self.dsn)

    def check_files(self) -> str:
        """Stop, if it runs, and have the checksum of every page compared; what is said of it.

        Raises:
            CalledProcessError: a page is damaged.
        """
        if (self.data / "postmaster.pid").exists():
            self._run("pg_ctl", "--wait", "--mode=fast", "stop")
        return self._run("pg_checksums", "--check")

    def _run(self, program: str, *options: str) -> str:
        command = [str(self._binaries / program), f"--pgdata={self.data}", *options]
        if os.geteuid() == 0:  # the server refuses to run as root
            command = ["runuser", "-u", "postgres", "--", *command]
        # pg_ctl's server keeps standard output open: a pipe of ours would never end.
        with tempfile.TemporaryFile("w+") as output:
            subprocess.run(command, check=True, stdout=output, stderr=output, cwd="/")
            output.seek(0)
            return output.read()


@contextmanager
def installed_server(binaries: Path) -> Iterator[Installed]:
    """Start a server in a new folder; a helper process ends it also when this one is killed."""
    data = Path(tempfile.mkdtemp(prefix="pandora-pg-"))
    if os.geteuid() == 0:
        shutil.chown(data, "postgres")
    reaper = subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).with_name("reaper.py")), str(data)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        server = Installed(binaries, data)
        server.start()
        yield server
    finally:
        assert reaper.stdin is not None
        reaper.stdin.close()
        reaper.wait(30)
