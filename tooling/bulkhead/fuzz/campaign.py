"""Fuzzing for a while, keeping what is new, telling what differs. Trust label: TOOL.

The kept corpus (`tests/fuzz/corpus`) is minimised by libFuzzer itself; `recorded.json` beside it says what it covers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bulkhead.conformance.backends import flavours, native
from bulkhead.conformance.backends.flavours import Flavour
from bulkhead.conformance.testing.machine import describe
from bulkhead.errors import BuildError, CheckFailed, InvalidInput
from bulkhead.fuzz import driver
from bulkhead.fuzz.shrink import shrink
from bulkhead.fuzz.target import Difference, Run
from bulkhead.image.variant import Edit
from bulkhead.provision import llvm
from bulkhead.provision.host import ensure_host_compiler
from bulkhead.provision.paths import REPOSITORY, say
from bulkhead.report import results

CORPUS = REPOSITORY / "tests" / "fuzz" / "corpus"
FOUND = REPOSITORY / "tests" / "fuzz" / "found"
RECORD = CORPUS.with_name("recorded.json")
WORK = REPOSITORY / "build" / "fuzz"
LONGEST = 400
"""Bytes of an input."""
_ALWAYS = (f"-max_len={LONGEST}", "-rss_limit_mb=0")
SPARE_SECONDS = 300
FULL = 1.0
"""Minutes of a run that is not reduced."""
_COUNTERS = (
    "-Cpasses=sancov-module", "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters", "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares", "-Ccodegen-units=1", "-Coverflow-checks", "-Cdebug-assertions",
)  # fmt: skip
FUZZ = Flavour("fuzz", _COUNTERS)
"""Counters on edges, and comparisons told to the fuzzer."""


@dataclass(frozen=True)
class Outcome:
    """What a run of libFuzzer says: executions, edges and features reached, inputs in its corpus; where it stopped at
    a difference, its text and the input."""

    executions: int
    edges: int
    features: int
    corpus: int
    difference: str = ""
    data: bytes = b""


def main(*, minutes: float, keep: bool = False) -> None:
    """Fuzzes; with `keep` the corpus in the repository is made anew of all that is known. Raises CheckFailed."""
    start = time.monotonic()
    grown = WORK / "corpus"
    grown.mkdir(parents=True, exist_ok=True)
    command, reduced = f"inv fuzz --minutes {minutes:g}", minutes < FULL
    with results.failing("fuzz", "host", command=command, reduced=reduced):
        outcome = fuzz([grown, CORPUS], [f"-max_total_time={int(60 * minutes)}"], seconds=60 * minutes)
    seconds = time.monotonic() - start
    found = [told(outcome)] if outcome.difference else []
    data = {"executions": outcome.executions, "corpus": outcome.corpus, "features": outcome.features,
            "edges": outcome.edges, "differences": len(found), "failures": found}  # fmt: skip
    results.write("fuzz", "host", data, command=command, seconds=seconds, reduced=reduced)
    say(
        f"{outcome.executions} executions, {outcome.edges} edges, {outcome.features} features, {outcome.corpus} inputs"
    )
    if found:
        raise CheckFailed(
            found[0], hint="the input is a regression test from now on: keep it with the fix"
        )
    if keep:
        keep_corpus(grown)


def fuzz(
    corpus: Sequence[Path], options: Sequence[str], *, seconds: float, edits: Sequence[Edit] = ()
) -> Outcome:
    """A run of libFuzzer over these directories, new inputs going to the first; the engine may be edited. BuildError,
    CheckFailed if it ends otherwise than by itself or at a difference."""
    crashes = WORK / f"crashes-{os.getpid()}"
    shutil.rmtree(crashes, ignore_errors=True)
    crashes.mkdir(parents=True)
    fixed = ("-timeout=60", "-print_final_stats=1", f"-artifact_prefix={crashes}/")
    text = _drive([*fixed, *options, *map(str, corpus)], seconds, edits)
    stats = dict(re.findall(r"^stat::(\w+):\s+(\d+)$", text, re.MULTILINE))
    last = (re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)/", text) or [("0", "0", "0")])[-1]
    edges, features, units = (int(number) for number in last)
    kept = sorted(crashes.iterdir())
    data = kept[0].read_bytes() if kept else b""
    shutil.rmtree(crashes)
    if not kept and not stats:
        raise CheckFailed(
            f"libFuzzer did not end well:\n{text[-3000:]}", where="python -m bulkhead.fuzz.driver"
        )
    _, differs, difference = text.partition(driver.DIFFERENCE)
    difference = difference.partition("\n==")[0] if differs else text[-3000:]
    executions = int(stats.get("number_of_executed_units", 0))
    return Outcome(executions, edges, features, units, difference if kept else "", data)


def told(outcome: Outcome) -> str:
    """A difference, made small and kept as a regression; how to see it again."""
    data, difference = shrink(outcome.data), outcome.difference
    try:
        Run(data).execute()
    except Difference as error:
        difference = str(error)
    FOUND.mkdir(parents=True, exist_ok=True)
    path = FOUND / f"input-{time.strftime('%Y%m%d-%H%M%S')}"
    path.write_bytes(data)
    return f"{difference}\nsee it again: inv fuzz --replay {path.relative_to(REPOSITORY)}"


def replay(paths: Sequence[Path]) -> set[tuple[str, str]]:
    """Takes the steps of these inputs on the library of this package: the branches of the specification that they took.

    CheckFailed at a difference.
    """
    covered: set[tuple[str, str]] = set()
    for path in paths:
        try:
            covered |= Run(path.read_bytes()).execute().covered
        except Difference as difference:
            raise CheckFailed(str(difference), where=path) from difference
    return covered


def show(path: Path) -> None:
    """Takes the steps of one input, or of all in a directory, and prints them. CheckFailed at a difference."""
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    for one in paths:
        try:
            run = Run(one.read_bytes()).execute()
        except OSError as error:
            raise InvalidInput(f"this input cannot be read: {error}", where=one) from error
        except Difference as difference:
            raise CheckFailed(str(difference), where=one) from difference
        print(f"{one.name}: {len(run.taken)} steps, all as specified")
        for step in run.taken if len(paths) == 1 else ():
            print(f"  {describe(step.name, step.arguments, step.cpu)}")


def keep_corpus(grown: Path) -> None:
    """The smallest set of inputs, old and new, that covers what all of them do; and the record of it."""
    fresh = WORK / "minimised"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    _drive(["-set_cover_merge=1", str(fresh), str(CORPUS), str(grown)], 3600, ())
    shutil.rmtree(CORPUS, ignore_errors=True)
    shutil.copytree(fresh, CORPUS)
    edges = fuzz([CORPUS], ["-runs=0"], seconds=600).edges
    pairs = sorted(f"{name}: {branch}" for name, branch in replay(inputs()))
    RECORD.write_text(json.dumps({"edges": edges, "pairs": pairs}, indent=1) + "\n")
    size = sum(path.stat().st_size for path in inputs())
    say(f"kept {len(inputs())} inputs, {size} bytes: {edges} edges, {len(pairs)} pairs")


def inputs() -> list[Path]:
    """The kept corpus, and all that ever differed."""
    return sorted(path for directory in (CORPUS, FOUND) if directory.is_dir() for path in directory.iterdir())


def _drive(options: Sequence[str], seconds: float, edits: Sequence[Edit]) -> str:
    """What a process with libFuzzer prints. It has ended, whatever happened."""
    fuzzer, library = libfuzzer(), flavours.build(FUZZ, edits)
    command = [sys.executable, "-m", "bulkhead.fuzz.driver", str(fuzzer)]
    program = WORK / "driver.sh"
    program.write_text(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
    program.chmod(0o755)
    env = {**os.environ, native.CHOSEN: str(library), driver.PROGRAM: str(program)}
    try:
        done = subprocess.run(
            [*command, *_ALWAYS, *options], cwd=REPOSITORY, env=env, capture_output=True, text=True, errors="replace",
            timeout=seconds + SPARE_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        what = f"libFuzzer has not ended after {seconds + SPARE_SECONDS:g} s"
        raise CheckFailed(what, where=" ".join(command)) from error
    return done.stderr + done.stdout


def libfuzzer() -> Path:
    """libFuzzer as a shared library, made of Debian's archive. Raises BuildError."""
    ensure_host_compiler()
    WORK.mkdir(parents=True, exist_ok=True)
    archive, library = llvm.ensure().runtime("fuzzer_no_main.a"), WORK / "libfuzzer.so"
    if library.is_file() and library.stat().st_mtime > archive.stat().st_ctime:
        return library
    whole = ["-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive"]
    fresh = library.with_suffix(f".{os.getpid()}")
    command = ["cc", "-shared", "-o", str(fresh), *whole, "-l:libstdc++.so.6", "-lm", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise BuildError(f"libFuzzer cannot be linked: {done.stderr.strip()}", where=" ".join(command))
    fresh.replace(library)
    return library
