"""The host build under AddressSanitizer and ThreadSanitizer, with overflow and debug assertions. Trust label: TOOL.

*Address*: the crates' own tests, and the tests of calls, in a Python that has the runtime loaded first; Python itself
is not instrumented, so leaks are looked for in the crates' tests only. *Thread*: CPUs that really run at the same time
(`engine/host/src/threads`), in a program linked with the runtime.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence

from bulkhead.conformance.backends import flavours, native
from bulkhead.conformance.backends.flavours import Flavour, Place
from bulkhead.errors import BuildError, CheckFailed
from bulkhead.image.variant import Edit
from bulkhead.provision import llvm, toolchain
from bulkhead.provision.paths import REPOSITORY, say
from bulkhead.report import results

CRATES = ("--package", "bulkhead-abi", "--package", "bulkhead-core", "--package", "bulkhead-host")
_CHECKED = ("-Cdebug-assertions", "-Coverflow-checks", "-Zexternal-clangrt")
_RUNNER = f"CARGO_TARGET_{flavours.TARGET.upper().replace('-', '_')}_RUNNER"
NOT_INSTRUMENTED = ("race:std::sync::mpmc::", "race:test::")
"""The harness of the crates' tests, and its channel, are of the standard library: its atomics are not instrumented."""
SECONDS = 600
CALLS = (
    *(f"tests/native/test_{name}.py" for name in (
        "blocks", "dma", "effects", "exits", "interrupts", "lifecycle", "meanwhile", "measurement", "order", "psci",
        "random", "sharing", "traps", "vcpus")),
    "tests/spec/test_oracle.py",
    "-k", "not lives_get_everywhere",
)  # fmt: skip
"""Tests that run under AddressSanitizer: every call with its effects; refusals are all alike."""


def main() -> None:
    """Both. Raises CheckFailed with what a sanitizer says."""
    start = time.monotonic()
    with results.failing("sanitize", "host", command="inv sanitize"):
        crates = address_of_crates()
        calls = address_of_calls()
        tallies = threads()
    say(f"address: {crates} tests of the crates, {calls}; thread: {tallies}")
    results.write("sanitize", "host", {"crates": crates, "calls": calls, "threads": tallies},
                  command="inv sanitize", seconds=time.monotonic() - start)  # fmt: skip


def address() -> Flavour:
    """AddressSanitizer, its runtime as a shared library."""
    runtime = llvm.ensure().runtime("asan.so")
    links = (f"-Clink-arg={runtime}", f"-Clink-arg=-Wl,-rpath,{runtime.parent}")
    return Flavour("address", ("-Zsanitizer=address", *_CHECKED, *links), unstable=True)


def thread() -> Flavour:
    """ThreadSanitizer, its runtime inside the program, as its interceptors need it; linked by LLVM's linker."""
    archive = llvm.ensure().runtime("tsan.a")
    linker = toolchain.pinned_root() / "usr" / "lib" / "llvm-19" / "bin"
    words = (
        f"-B{linker}", "-fuse-ld=lld", "-Wl,--whole-archive", str(archive), "-Wl,--no-whole-archive",
        f"-Wl,--dynamic-list={archive}.syms", "-lm", "-ldl", "-lpthread", "-lrt", "-l:libresolv.so.2", "-lc",
    )  # fmt: skip
    links = (f"-Clink-arg={word}" for word in words)
    return Flavour("thread", ("-Zsanitizer=thread", *_CHECKED, *links), unstable=True)


def address_of_crates() -> int:
    """The crates' own tests under AddressSanitizer, leaks included: how many. Raises CheckFailed."""
    runtime = llvm.ensure().runtime("asan.so")
    runner = f"env LD_PRELOAD={runtime} ASAN_OPTIONS={_options('detect_leaks=1')}"
    return _passed(_test(address(), [*CRATES, "--lib"], runner))


def threads(edits: Sequence[Edit] = ()) -> str:
    """CPUs at the same time under ThreadSanitizer, with the engine edited: what they did. Raises CheckFailed."""
    known = Place.of(thread(), edits).target / "suppressions"
    known.parent.mkdir(parents=True, exist_ok=True)
    known.write_text("\n".join(NOT_INSTRUMENTED))
    runner = f"env RUST_TEST_THREADS=1 TSAN_OPTIONS={_options(f'suppressions={known}')}"
    output = _test(thread(), ["--package", "bulkhead-host", "--lib"], runner, edits, "threads", "--nocapture")
    if _passed(output) != 1:
        raise CheckFailed("there is no test of threads", where="engine/host/src/threads")
    return next(line for line in output.splitlines() if line.startswith("together: ")).removeprefix(
        "together: "
    )


def address_of_calls(edits: Sequence[Edit] = (), tests: Sequence[str] = CALLS) -> str:
    """Tests of calls on a library with AddressSanitizer: pytest's summary. CheckFailed if one fails."""
    library = flavours.build(address(), edits)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    env |= {
        native.CHOSEN: str(library),
        "LD_PRELOAD": str(llvm.ensure().runtime("asan.so")),
        "ASAN_OPTIONS": _options("detect_leaks=0"),
    }
    # Not captured: what the sanitizer says would end with the process.
    pytest = (sys.executable, "-m", "pytest", "-qsx", "-p", "no:cacheprovider", "--bulkhead-backend", "host")
    command = [*pytest, *tests]
    say(f"under AddressSanitizer: {' '.join(command)}")
    done = subprocess.run(
        command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if done.returncode:
        raise CheckFailed(_said(done.stdout + done.stderr), where=" ".join(command))
    return done.stdout.strip().splitlines()[-1]


def _options(more: str) -> str:
    symbolizer = llvm.ensure().tool("llvm-symbolizer")
    return f"halt_on_error=1:abort_on_error=0:external_symbolizer_path={symbolizer}:{more}"


def _test(
    flavour: Flavour, packages: Sequence[str], runner: str, edits: Sequence[Edit] = (), *arguments: str
) -> str:
    """What `cargo test` printed. CheckFailed if a test fails."""
    place = Place.of(flavour, edits)
    env = {_RUNNER: runner, "LD_LIBRARY_PATH": llvm.ensure().env()["LD_LIBRARY_PATH"]}
    say(f"under {flavour.name} sanitizer: cargo test {' '.join(packages)}")
    try:
        return flavours.cargo(flavour, ["test", *packages], place, env, arguments)
    except BuildError as error:
        raise CheckFailed(_said(str(error)), where=f"cargo test, {flavour.name} sanitizer") from error


def _passed(output: str) -> int:
    """How many tests passed in all programs."""
    return sum(int(number) for number in re.findall(r"^test result: ok\. (\d+) passed", output, re.MULTILINE))


def _said(output: str) -> str:
    """The report of a sanitizer, or else the end of what was printed."""
    found = re.search(r"^.*((ERROR: (Address|Leak)|WARNING: Thread)Sanitizer)", output, re.MULTILINE)
    return output[found.start() : found.start() + 4000] if found else output[-3000:]
