"""Coverage of engine/core on the host build: workload, counting, verdict. Trust label: TOOL.

The workload runs in processes that load a library with counters (`flavours.COVERAGE`); llvm-profdata adds them up.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bulkhead.conformance.backends import flavours, native
from bulkhead.coverage import counts, explained
from bulkhead.coverage.counts import FileCounts
from bulkhead.coverage.explained import Missing
from bulkhead.errors import CheckFailed
from bulkhead.provision import llvm
from bulkhead.provision.paths import REPOSITORY, say
from bulkhead.report import results

SCOPE, ON = "core", "host"
SOURCES = REPOSITORY / "engine" / "core" / "src"
PLACE = REPOSITORY / "build" / "coverage"
LIMIT = 0.98
"""Less than this part of the lines, or of the branches, is a failure even where all is explained."""
SECONDS = 900
PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--bulkhead-backend", "host")
WORKLOAD = (
    (*PYTEST, "tests/native"),
    (
        *PYTEST,
        *(f"tests/spec/test_{name}.py" for name in ("oracle", "ghost", "vcpus")),
        "-k",
        "not everywhere",
    ),
)
"""Commands that run at the same time: the tests of calls, and those against the specification."""


def main() -> None:
    """Runs the workload, prints and writes what it covers. Raises CheckFailed if that is too little or unexplained."""
    start = time.monotonic()
    variant, command = f"{SCOPE}_{ON}", "inv coverage --on host"
    with results.failing("coverage", variant, command=command, native=True):
        found = measure(flavours.build(flavours.COVERAGE), WORKLOAD)
    missing, wrong = explained.explain(found, SOURCES, explained.load(SCOPE))
    files, seconds = report(found, missing), time.monotonic() - start
    data = {"scope": SCOPE, "on": ON, "files": files}
    results.write("coverage", variant, data, command=command, seconds=seconds, native=True)
    for name, entry in files.items():
        print(f"  {name}: {entry['covered']} of {entry['lines']} lines, "
              f"{entry['covered_branches']} of {entry['branches']} branches")  # fmt: skip
    problems = verdict(found, missing, wrong)
    if problems:
        what = "\n  ".join(["coverage of engine/core on the host build:", *problems])
        raise CheckFailed(what, where=explained.FILE, hint="add a test, or explain what cannot be reached")


def measure(library: Path, workload: Sequence[Sequence[str]]) -> dict[str, FileCounts]:
    """What the commands execute of `library`, which has counters. CheckFailed if one of them fails."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    # Not that of a test that calls this: its workers are not these.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {native.CHOSEN: str(library), "LLVM_PROFILE_FILE": str(PLACE / "%p-%m.profraw")}
    logs = [PLACE / f"workload-{number}.log" for number, _ in enumerate(workload)]
    runs = []
    for command, log in zip(workload, logs, strict=True):
        say(f"counting: {' '.join(command)}")
        with log.open("w") as output:
            runs.append(
                subprocess.Popen(command, cwd=REPOSITORY, env=env, stdout=output, stderr=subprocess.STDOUT)
            )
    codes = [_end(run) for run in runs]
    for code, log, command in zip(codes, logs, workload, strict=True):
        if code:
            raise CheckFailed(f"a workload fails:\n{log.read_text()[-3000:]}", where=" ".join(command))
    return _read(library, sorted(PLACE.glob("*.profraw")))


def _end(run: subprocess.Popen[bytes]) -> int:
    try:
        return run.wait(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        run.kill()
        return run.wait()


def _read(library: Path, profiles: Sequence[Path]) -> dict[str, FileCounts]:
    tools, merged = llvm.ensure(), PLACE / "merged.profdata"
    _run(tools, "llvm-profdata", "merge", "-sparse", "-o", merged, *profiles)
    export = ("export", str(library), f"--instr-profile={merged}", f"--sources={SOURCES}")
    lcov = _run(tools, "llvm-cov", *export, "--format=lcov")
    document = _run(tools, "llvm-cov", *export, "--format=text", "--skip-functions")
    return counts.parse(lcov, document, SOURCES)


def _run(tools: llvm.Llvm, name: str, *arguments: str | Path) -> str:
    done = subprocess.run(
        [tools.tool(name), *arguments],
        env=tools.env(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        raise CheckFailed(f"{name} failed: {done.stderr.strip()[-1000:]}", where=name)
    return done.stdout


def report(
    found: Mapping[str, FileCounts], missing: Mapping[str, list[Missing]]
) -> dict[str, dict[str, Any]]:
    """What is kept of a run: for each file the counts, and [line, why] of what is missing."""
    files = {}
    for name, one in found.items():
        branches = 2 * len(one.branches)
        files[f"engine/core/src/{name}"] = {
            "lines": len(one.lines),
            "covered": len(one.lines) - len(one.missing_lines()),
            "branches": branches,
            "covered_branches": branches - len(list(one.missing_branches())),
            "missing": [[gap.line, f"{gap}: {gap.why}" if gap.never else gap.why] for gap in missing[name]],
        }
    return files


def verdict(
    found: Mapping[str, FileCounts], missing: Mapping[str, list[Missing]], wrong: list[str]
) -> list[str]:
    """What is wrong, if anything: too little covered, gaps that nobody explains, explanations that do not fit."""
    problems = [f"an explanation does not fit: {sentence}" for sentence in wrong]
    problems += [f"{name}:{gap.line}: {gap}" for name, gaps in missing.items() for gap in gaps if not gap.why]
    for kind, part in shares(found).items():
        if part < LIMIT:
            problems.append(f"{part:.2%} of the {kind} are covered, which is less than {LIMIT:.0%}")
    return problems


def shares(found: Mapping[str, FileCounts]) -> dict[str, float]:
    """The part of all lines, and of all branches, that is covered."""
    lines = sum(len(one.lines) for one in found.values())
    branches = sum(2 * len(one.branches) for one in found.values())
    no_lines = sum(len(one.missing_lines()) for one in found.values())
    no_branches = sum(len(list(one.missing_branches())) for one in found.values())
    return {"lines": 1 - no_lines / max(lines, 1), "branches": 1 - no_branches / max(branches, 1)}
