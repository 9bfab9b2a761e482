"""Looks for one defect with the part of the suite that is to find it.

Trust label: TOOL. A defective engine runs in a process of its own, or in QEMU, with a time limit: it may hang or crash.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bulkhead.conformance.backends import native
from bulkhead.defects import witness
from bulkhead.defects.declaration import Defect, Finder
from bulkhead.errors import BulkheadError, MachineTimeout
from bulkhead.image import build
from bulkhead.image.variant import Edit, build_library, build_variant
from bulkhead.provision.paths import REPOSITORY

TESTS_SECONDS = 300
GRACE_SECONDS = 30
"""What a process gets beyond the time of its steps."""
SEED = "defects"


class Verdict(Enum):
    """How a search ended."""

    FOUND = "found"
    SURVIVED = "survived"
    BROKEN = "broken"
    """Neither: it does not fit, does not compile, or the suite failed otherwise than by finding it."""


@dataclass(frozen=True)
class Finding:
    """`by`: the finder, or the very test; `step`: what was wrong, as the suite tells it; `seconds` with the build."""

    defect: Defect
    verdict: Verdict
    by: str
    step: str
    seconds: float


@dataclass(frozen=True)
class Answer:
    """Of a finder: whether it failed, by what, and how."""

    verdict: Verdict
    by: str
    step: str


def hunt(defect: Defect) -> Finding:
    """Builds the engine and looks for the defect."""
    start = time.monotonic()
    try:
        answer = search(defect.edits, defect.found_by)
    except Exception as error:  # noqa: BLE001 (whatever it is, the search for the others goes on)
        what = str(error) if isinstance(error, BulkheadError) else repr(error)
        answer = Answer(Verdict.BROKEN, str(defect.found_by), what)
    return Finding(defect, answer.verdict, answer.by, answer.step, time.monotonic() - start)


def search(edits: tuple[Edit, ...], finder: Finder) -> Answer:
    """What a finder says of an engine with these edits. Raises BulkheadError where it cannot be asked."""
    if finder.part == "conformance":
        return _conformance(build_library(edits), finder.seconds)
    if finder.part == "trace":
        return _trace(edits)
    if finder.part == "attacks":
        return _attacks(edits, finder)
    if finder.backend == "host":
        return _tests(finder, {native.CHOSEN: str(build_library(edits))})
    return _tests(finder, {build.OTHER: str(build_variant(edits).elf.parent)})


def _conformance(library: Path, seconds: int) -> Answer:
    command = [sys.executable, "-m", "bulkhead.defects.trial", SEED, str(seconds)]
    done = _run(command, {native.CHOSEN: str(library)}, seconds + GRACE_SECONDS)
    if done.returncode < 0:
        return Answer(
            Verdict.FOUND, "conformance", f"the engine ends the process by signal {-done.returncode}"
        )
    try:
        told = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError):
        return Answer(Verdict.BROKEN, "conformance", done.stderr[-2000:])
    if told["step"]:
        return Answer(Verdict.FOUND, "conformance", told["step"])
    return Answer(Verdict.SURVIVED, "conformance", f"{told['steps']} steps agree with the specification")


def _trace(edits: tuple[Edit, ...]) -> Answer:
    from bulkhead.trace.check import check_calls

    differences = check_calls(build_variant(edits))
    if differences:
        return Answer(Verdict.FOUND, "trace", differences[0])
    return Answer(Verdict.SURVIVED, "trace", "every step does what its events stand for")


def _tests(finder: Finder, env: Mapping[str, str]) -> Answer:
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "witness.json"
        command = [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-x",
                "-q",
                "-p",
                "bulkhead.defects.witness",
                "-p",
                "no:cacheprovider",
            ),
            *("--bulkhead-backend", finder.backend, *finder.names),
        ]
        done = _run(command, {**env, witness.PLACE: str(report), "BULKHEAD_RESULTS": place}, TESTS_SECONDS)
        if report.is_file():
            told = json.loads(report.read_text())
            verdict = Verdict.FOUND if told["sound"] else Verdict.BROKEN
            return Answer(verdict, told["test"], told["step"])
    if done.returncode == 0:
        return Answer(Verdict.SURVIVED, str(finder), done.stdout.strip().splitlines()[-1])
    return Answer(Verdict.BROKEN, str(finder), (done.stdout + done.stderr)[-2000:])


def _attacks(edits: tuple[Edit, ...], finder: Finder) -> Answer:
    from bulkhead.attack import catalogue
    from bulkhead.attack.campaign import Job, Outcome, under_way

    chosen = catalogue.select(list(finder.names))
    jobs = [
        Job(machine, edits, tuple(one for one in chosen if one.machine == machine))
        for machine in dict.fromkeys(one.machine for one in chosen)
    ]
    broken = None
    with under_way(jobs) as campaign:
        for one in chosen:
            result = campaign.result(one, TESTS_SECONDS)
            if result.outcome in (Outcome.SUCCEEDED, Outcome.TRACES):
                return Answer(Verdict.FOUND, f"attack {one.name}", result.reached)
            if result.outcome is Outcome.BROKEN:
                broken = broken or Answer(Verdict.BROKEN, f"attack {one.name}", result.reached)
    return broken or Answer(Verdict.SURVIVED, str(finder), f"{len(chosen)} attacks are refused")


def _run(command: list[str], env: Mapping[str, str], seconds: float) -> subprocess.CompletedProcess[str]:
    """The process; one that does not end is killed with all that it has started."""
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env={**os.environ, **env}, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, err = process.communicate()
        raise MachineTimeout(f"no end after {seconds:.0f} s", where=" ".join(command[2:])) from None
    return subprocess.CompletedProcess(command, process.returncode, out, err)
