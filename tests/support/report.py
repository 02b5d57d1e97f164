"""Counts the tests that ran on PostgreSQL, and all that did not run, with their reasons."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

# Begins the reason of every test that is skipped for want of a server.
NO_POSTGRES = "no PostgreSQL server: "
# The user property that a test on PostgreSQL carries; its value names the server.
POSTGRES_PROPERTY = "postgres"


class PostgresReport:
    """A plugin: lines in the summary, and failure under CI when the PostgreSQL half did not run."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._in_ci = environ.get("CI", "").lower() not in {"", "0", "false"}
        self.ran: Counter[str] = Counter()
        self.missed: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test, once."""
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            self.skipped[f"{report.nodeid}: {reason}"] += 1
            if reason.startswith(NO_POSTGRES):
                self.missed[reason.removeprefix(NO_POSTGRES)] += 1
        elif report.when == "call":
            servers = {str(v) for k, v in report.user_properties if k == POSTGRES_PROPERTY}
            self.ran.update(servers)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Make a green run red, under CI, when tests were skipped for want of a server."""
        if self.missed and self._in_ci and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say on which server how many tests ran, and how many did not run at all."""
        terminalreporter.section("not run")
        terminalreporter.write_line(f"{self.skipped.total()} tests did not run")
        for test, count in self.skipped.items():
            terminalreporter.write_line(f"  {count} x {test}")
        if not self.ran and not self.missed:
            return
        terminalreporter.section("PostgreSQL")
        for server, count in self.ran.items():
            terminalreporter.write_line(f"{count} tests ran on {server}")
        for reason, count in self.missed.items():
            verdict = "a failure, as CI is set" if self._in_ci else "half of the suite is missing"
            terminalreporter.write_line(
                f"{count} tests did NOT run, {verdict}: {reason}", red=True, bold=True
            )
