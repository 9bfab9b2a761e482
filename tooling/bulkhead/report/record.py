"""pytest: keeps the outcome and the duration of each test as a result, for the report. Trust label: TOOL.

`pytest -p bulkhead.report.record --record NAME` writes the result `tests-NAME`; every failure with the command that
repeats it.
"""

from __future__ import annotations

import shlex
import time
from typing import Any

import pytest

from bulkhead.conformance.testing.failures import plain
from bulkhead.report import results

COMMANDS = {"test": "inv test", "fast": "inv test --fast"}
"""What runs all tests again."""
TEXT = 4000
"""Characters of what a failure said that are kept."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds --record."""
    parser.addoption(
        "--record", metavar="NAME", default="", help="keep what is found as the result tests-NAME"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Recording is for the process that collects the reports of all others."""
    name = config.getoption("--record")
    if name and not hasattr(config, "workerinput"):  # which pytest-xdist gives to its workers alone
        config.pluginmanager.register(Recorder(name), "bulkhead-recorder")


class Recorder:
    """What has been reported so far. Times in seconds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.began = time.monotonic()
        self.durations: dict[str, float] = {}
        self.outcomes: dict[str, str] = {}
        self.failures: list[dict[str, str]] = []

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected is a failure, too."""
        if report.failed:
            self._fail(report.nodeid or "collection", "collection", str(report.longrepr), "")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of one test."""
        name = plain(report.nodeid)
        self.durations[name] = self.durations.get(name, 0.0) + report.duration
        if report.when == "call" or not report.passed:
            self.outcomes[name] = "failed" if self.outcomes.get(name) == "failed" else report.outcome
        if report.failed:
            replay = next((text for title, text in report.sections if title == "run it again"), "")
            self._fail(name, report.when, report.longreprtext, replay)

    def _fail(self, nodeid: str, phase: str, text: str, replay: str) -> None:
        command = replay or shlex.join(["pytest", nodeid])
        self.failures.append({"test": nodeid, "phase": phase, "text": text[-TEXT:], "replay": command})

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Writes the result, whatever the end was."""
        if session.config.option.collectonly:
            return
        counts = {
            outcome: sum(one == outcome for one in self.outcomes.values())
            for outcome in ("passed", "skipped")
        }
        data: dict[str, Any] = {
            **counts,
            "failures": self.failures,
            "durations": {name: round(seconds, 3) for name, seconds in self.durations.items()},
        }
        words = ("python", "-m", "pytest", *session.config.invocation_params.args)
        results.write(
            "tests", self.name, data, command=COMMANDS.get(self.name) or shlex.join(words),
            seconds=time.monotonic() - self.began, native=self.name == "fast",
        )  # fmt: skip
