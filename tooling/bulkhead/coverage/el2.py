"""Coverage of the shipped image on QEMU: workload, counting, verdict. Trust label: TOOL.

Tests that boot the shipped engine run with a plugin in QEMU that notes which of its instructions were executed, and
which way its branches went (`bulkhead.trace.probe`). What cannot be reached there is explained in `explained_el2.toml`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulkhead.coverage.machine_code import Counter, FileCounts, Gap, of_crate, total
from bulkhead.errors import CheckFailed, InvalidInput
from bulkhead.image.build import build
from bulkhead.machine.qemu import EXTRA
from bulkhead.provision.paths import REPOSITORY, say
from bulkhead.report import results
from bulkhead.trace.probe import Probe
from bulkhead.trace.sources import Sources

EXPLAINED = Path(__file__).with_name("explained_el2.toml")
LIMITS = {"arch": (0.95, 0.90)}
"""Crate → the parts of its lines, and of its branches, that must be covered. Every gap in it must be explained."""
CRATES = ("arch", "image", "core")
NOT_EXPLAINED = "not explained on QEMU, where only gaps of engine/arch have to be"
COMMAND = "inv coverage --on qemu"
SECONDS = 600
PYTEST = (sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--bulkhead-backend", "qemu")
BOOT = ("boot", "cpu_models", "psci", "random", "traps", "interrupts", "vectors", "end", "faults", "faults_at_boot")
NATIVE = ("guest_sharing", "guest_calls", "guests", "dma", "lifecycle")
CHOSEN = (
    "tests/boot/test_panic.py::test_a_failed_check_names_its_place",
    "tests/boot/test_refusals.py::test_a_cpu_without_what_the_engine_needs",
    "tests/native/test_calling.py::test_stats_count_calls",
    "tests/native/test_calling.py::test_stats_of_no_index",
    "tests/native/test_calling.py::test_stats_of_no_kind",
)
WORKLOAD: tuple[tuple[str, ...], ...] = (
    (*(f"tests/boot/test_{name}.py" for name in BOOT), *CHOSEN),
    (*(f"tests/native/test_{name}.py" for name in NATIVE), "tests/guests/test_hw_breakpoints.py"),
)
"""Tests; the groups run at the same time. Others add nothing in engine/arch, and little elsewhere."""


@dataclass(frozen=True)
class Explanation:
    """Why lines of a file (below `engine/`) are not executed, or branches in them have one outcome only: those whose
    text is `text`, or matches `pattern` (a regular expression for all of it)."""

    file: str
    why: str
    text: str = ""
    pattern: str = ""

    def fits(self, gap: Gap) -> bool:
        """Whether it is about this gap."""
        if gap.place.file != self.file:
            return False
        return gap.text == self.text if self.text else re.fullmatch(self.pattern, gap.text) is not None


def main() -> None:
    """Runs the workload, prints and writes what it covers. CheckFailed if that is too little, or unexplained."""
    start = time.monotonic()
    with results.failing("coverage", "arch_qemu", command=COMMAND):
        counts = measure(WORKLOAD)
    why, wrong = explain(counts, load())
    seconds = time.monotonic() - start
    for crate in CRATES:
        files = {file: _entry(one, why) for file, one in counts.items() if file.startswith(f"{crate}/")}
        data = {
            "scope": crate,
            "on": "qemu",
            "files": {f"engine/{file}": entry for file, entry in files.items()},
        }
        results.write("coverage", f"{crate}_qemu", data, command=COMMAND, seconds=seconds)
        say(f"engine/{crate} on QEMU: {summary(total(of_crate(counts, crate)))}")
    problems = verdict(counts, why, wrong)
    if problems:
        what = "\n  ".join(["coverage of the shipped image on QEMU:", *problems])
        raise CheckFailed(
            what, where=EXPLAINED, hint="add a test to the workload, or explain what cannot be reached"
        )


def measure(workload: Sequence[Sequence[str]]) -> dict[str, FileCounts]:
    """What the tests execute of the shipped engine. CheckFailed if one of them fails."""
    images = build("pinned", "payload")
    build("pinned", "shim")
    with Probe(images.elf) as probe:
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        env[EXTRA] = shlex.join(probe.options())
        runs: list[subprocess.Popen[str]] = []
        try:
            for tests in workload:
                command = [*PYTEST, *tests]
                say(f"counting: {' '.join(tests)}")
                runs.append(subprocess.Popen(
                    command, cwd=REPOSITORY, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                ))  # fmt: skip
            for run, tests in zip(runs, workload, strict=True):
                _finish(run, tests)
        finally:
            for run in runs:
                run.kill()  # nothing if it has ended; the machines of a pytest go with it
        return Counter(Sources(images.elf), probe).count()


def _finish(run: subprocess.Popen[str], tests: Sequence[str]) -> None:
    try:
        output, _ = run.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CheckFailed(f"a workload takes more than {SECONDS} s", where=" ".join(tests)) from error
    if run.returncode:
        raise CheckFailed(f"a workload fails:\n{output[-3000:]}", where=" ".join(tests))


def load(path: Path = EXPLAINED) -> list[Explanation]:
    """The explanations. InvalidInput if they cannot be read."""
    try:
        return [Explanation(**entry) for entry in tomllib.loads(path.read_text())["gap"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"the explanations cannot be read: {error!r}", where=path) from error


def explain(
    counts: Mapping[str, FileCounts], explanations: Sequence[Explanation]
) -> tuple[dict[Gap, str], list[str]]:
    """Gap → why; and the explanations that fit no gap."""
    gaps = total(counts.values()).gaps
    why: dict[Gap, str] = {}
    wrong = []
    for one in explanations:
        fitting = [gap for gap in gaps if one.fits(gap)]
        why.update((gap, one.why) for gap in fitting)
        if not fitting:
            wrong.append(f"{one.file}: `{one.text or one.pattern}` is covered, or not there")
    return why, wrong


def verdict(counts: Mapping[str, FileCounts], why: Mapping[Gap, str], wrong: Sequence[str]) -> list[str]:
    """What is wrong, if anything: too little covered, gaps that nobody explains, explanations that do not fit."""
    return [*(f"an explanation does not fit: {sentence}" for sentence in wrong), *_shortfalls(counts, why)]


def _shortfalls(counts: Mapping[str, FileCounts], why: Mapping[Gap, str]) -> Iterator[str]:
    for crate, (lines, branches) in LIMITS.items():
        one = total(of_crate(dict(counts), crate))
        for what, limit, covered, of in (
            ("lines", lines, one.covered, one.lines),
            ("branches", branches, one.covered_branches, one.branches),
        ):
            if covered < limit * of:
                yield f"{covered / of:.1%} of the {what} of engine/{crate} are covered, which is less than {limit:.0%}"
        yield from (str(gap) for gap in one.gaps if gap not in why)


def summary(one: FileCounts) -> str:
    """In a line."""
    lines, branches = one.covered / max(one.lines, 1), one.covered_branches / max(one.branches, 1)
    return (
        f"{one.covered} of {one.lines} lines ({lines:.1%}), {one.covered_branches} of {one.branches} branches"
        f" ({branches:.1%}); {one.checks} ways to a panic not taken"
    )


def _entry(one: FileCounts, why: Mapping[Gap, str]) -> dict[str, Any]:
    return {
        "lines": one.lines,
        "covered": one.covered,
        "branches": one.branches,
        "covered_branches": one.covered_branches,
        "missing": [[gap.place.line, f"{gap}: {why.get(gap, NOT_EXPLAINED)}"] for gap in one.gaps],
    }
