"""The summary line about PostgreSQL, and that CI is red when its half did not run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.report import NO_POSTGRES, POSTGRES_PROPERTY

pytest_plugins = ["pytester"]

CONFTEST = """
from tests.support.report import PostgresReport

def pytest_configure(config):
    config.pluginmanager.register(PostgresReport())
"""
MISSED = f"""
import pytest

@pytest.fixture(scope="session")
def server():
    pytest.skip("{NO_POSTGRES}nothing installed")

def test_one(server): pass
def test_two(server): pass
def test_sqlite(): pass
"""
RAN = f"""
def test_one(record_property): record_property("{POSTGRES_PROPERTY}", "PostgreSQL 18.4 (wheel)")
"""


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.mark.parametrize(("ci", "exit_code"), [("true", 1), ("", 0), ("false", 0)])
def test_tests_without_a_server_are_counted_and_named_and_fail_under_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, exit_code: int
) -> None:
    monkeypatch.setenv("CI", ci)
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(MISSED)

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    assert exit_code == result.ret
    result.stdout.fnmatch_lines("2 tests did NOT run, *: nothing installed")


def test_every_test_that_did_not_run_is_counted_and_named(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(
        "import pytest\ndef test_one(): pytest.skip('no fork')\ndef test_two(): pass"
    )

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    assert result.ret == 0
    result.stdout.fnmatch_lines(["1 tests did not run", "  1 x *::test_one: no fork"])


def test_the_server_that_was_tested_on_is_named(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(RAN)

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    assert result.ret == 0
    result.stdout.fnmatch_lines("1 tests ran on PostgreSQL 18.4 (wheel)")


def test_a_run_without_postgres_tests_says_nothing(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile("def test_one(): pass")

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")

    assert result.ret == 0
    result.stdout.no_fnmatch_line("*PostgreSQL*")
