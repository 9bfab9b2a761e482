"""What the tasks setup, lint, test and clean do. Trust label: TOOL.

A step is one command; all steps of a list run, even after a failure, and the failures are counted at the end.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bulkhead.errors import BulkheadError, CheckFailed, InvalidInput
from bulkhead.provision import guests, pkvm_kernel, qemu, toolchain
from bulkhead.provision.paths import REPOSITORY, cache_dir, say
from bulkhead.provision.pins import flags
from bulkhead.provision.toolchain import Toolchain

LINT_SECONDS = 900
TEST_SECONDS = 3 * 3600
TEST_PROCESSES = min(os.cpu_count() or 1, 4)
BACKENDS = ("host", "qemu", "metal", "all")
SLOW_MARKERS = ("qemu", "guest", "slow")


# clippy 1.85 alone counts the idiom `field << SHIFT | other` under `precedence`; later ones made that another lint,
# which is off unless asked for (`precedence_bits`).
CLIPPY_FLAGS = ("-Dwarnings", "-Aclippy::precedence")


@dataclass(frozen=True)
class RustPart:
    """Packages of one workspace that are checked together, for this machine or for the bare-metal target."""

    workspace: str
    packages: tuple[str, ...]
    bare_metal: bool
    features: tuple[str, ...] = ()


# What runs on this machine too is checked with its tests; the rest only builds for the target.
RUST_PARTS = (
    RustPart("engine", ("bulkhead-abi", "bulkhead-core", "bulkhead-host"), bare_metal=False),
    RustPart("engine", ("bulkhead-image",), bare_metal=True),
    RustPart("engine", ("bulkhead-image",), bare_metal=True, features=("bulkhead-image/self-test",)),
    RustPart("hypervisor-shim", (), bare_metal=True),
)


@dataclass(frozen=True)
class Step:
    """One command of a check, with its directory and environment."""

    name: str
    command: Sequence[str | Path]
    seconds: int
    cwd: Path = REPOSITORY
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def passes(self) -> bool:
        """Run it with its output going to the terminal; says which command failed."""
        line = shlex.join(map(str, self.command))
        say(f"{self.name}: {line}")
        try:
            code = subprocess.run(
                self.command, cwd=self.cwd, env=self.env, timeout=self.seconds, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            say(f"{self.name}: no end after {self.seconds} s")
            return False
        return code == 0


def _run_all(steps: Sequence[Step], what: str, afterwards: Callable[[], None] = lambda: None) -> None:
    """`afterwards` comes before the last word, also when steps have failed."""
    failed = [step.name for step in steps if not step.passes()]
    afterwards()
    if failed:
        raise CheckFailed(f"{what}: {len(failed)} of {len(steps)} steps failed: {', '.join(failed)}",
                          hint="the output above says where; each command can be run by itself")  # fmt: skip
    say(f"{what}: {len(steps)} of {len(steps)} steps passed")


# --- setup ----------------------------------------------------------------------------------------------------------


def setup() -> None:
    """Provide all that any task needs. Raises BulkheadError."""
    rust = toolchain.ensure("pinned")
    say(rust.describe())
    say(f"QEMU: {qemu.ensure()}")
    say(f"gdb: {qemu.ensure_gdb()}")
    say(f"guest: {guests.ensure().kernel}")
    say(f"guest that shares by itself: {pkvm_kernel.ensure()}")
    for name in guests.FIRMWARE:
        say(f"firmware: {guests.ensure_firmware(name)}")
    build_native(rust)


def build_native(rust: Toolchain) -> None:
    """Build the engine's host library for this Python, with the given toolchain. Raises BuildError."""
    from bulkhead.conformance.backends import native

    say("building the engine for this machine (bulkhead._engine)")
    with _process_environment(rust.env()):
        native.build()


@contextmanager
def _process_environment(env: Mapping[str, str]) -> Iterator[None]:
    """Give this process another environment for a while."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(env)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


# --- lint -----------------------------------------------------------------------------------------------------------


def lint() -> None:
    """ruff, mypy --strict, rustfmt and clippy with warnings as errors. Raises CheckFailed."""
    _run_all(_lint_steps(toolchain.ensure("pinned")), "lint")


def _lint_steps(rust: Toolchain) -> list[Step]:
    python = [
        Step("ruff", [sys.executable, "-m", "ruff", "check", "--quiet", "."], LINT_SECONDS),
        Step("mypy", [sys.executable, "-m", "mypy", "--strict"], LINT_SECONDS),
    ]
    workspaces = sorted({part.workspace for part in RUST_PARTS})
    formats = [
        Step(
            f"rustfmt {name}",
            [rust.cargo, "fmt", "--all", "--check"],
            LINT_SECONDS,
            REPOSITORY / name,
            rust.env(),
        )
        for name in workspaces
    ]
    return python + formats + [_clippy(part, rust) for part in RUST_PARTS]


def _clippy(part: RustPart, rust: Toolchain) -> Step:
    where = ["--target", flags()["target"]] if part.bare_metal else ["--all-targets"]
    packages = [word for package in part.packages for word in ("--package", package)]
    packages += [word for feature in part.features for word in ("--features", feature)]
    command = [rust.cargo, "clippy", "--quiet", "--locked", "-j2", *packages, *where, "--", *CLIPPY_FLAGS]
    kind = "target" if part.bare_metal else "host"
    return Step(
        f"clippy {part.workspace} ({kind})", command, LINT_SECONDS, REPOSITORY / part.workspace, rust.env()
    )


# --- test -----------------------------------------------------------------------------------------------------------


def test(*, fast: bool, backend: str) -> None:
    """Lint, the crates' own tests, and pytest over tests/. No tests at all is a failure. CheckFailed, InvalidInput."""
    if backend not in ("", *BACKENDS):
        raise InvalidInput(f"there is no backend '{backend}'", hint=f"one of {', '.join(BACKENDS)}")
    rust = toolchain.ensure("pinned")
    steps = [*_lint_steps(rust), *_cargo_tests(rust)]
    build_native(rust)
    if not fast:
        qemu.ensure()
        guests.ensure()
        pkvm_kernel.ensure()
        for name in guests.FIRMWARE:
            guests.ensure_firmware(name)
    _run_all([*steps, _pytest(fast, backend)], "test", afterwards=_report)


def _report() -> None:
    """What was found is shown also, and above all, when something has failed."""
    from bulkhead.report import cli

    try:
        cli.main()
    except BulkheadError as error:
        say(f"no report: {error}")


def _cargo_tests(rust: Toolchain) -> list[Step]:
    return [
        Step(
            f"cargo test {part.workspace}",
            [rust.cargo, "test", "--quiet", "--locked", "-j2", *(w for p in part.packages for w in ("--package", p))],
            LINT_SECONDS, REPOSITORY / part.workspace, rust.env(),
        )
        for part in RUST_PARTS
        if not part.bare_metal
    ]  # fmt: skip


def _pytest(fast: bool, backend: str) -> Step:
    # -v prints a test's name before it runs; exit status 5 (nothing collected) fails the step like any other.
    excluded = [*(SLOW_MARKERS if fast else ()), "needs_metal"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-v",
        "-m",
        " and ".join(f"not {marker}" for marker in excluded),
        f"--numprocesses={TEST_PROCESSES}",
        "--dist=loadgroup",
    ]
    backend = backend or ("host" if fast else "all")
    command += [
        "--bulkhead-backend",
        backend,
        "-p",
        "bulkhead.report.record",
        "--record",
        "fast" if fast else "test",
    ]
    if backend in ("metal", "all"):
        command += ["--bulkhead-serial", "qemu"]  # no board here: a pseudo-terminal
    return Step("pytest", command, TEST_SECONDS)


def storms(count: int) -> None:
    """So many lifecycle storms on the booted engine, less those already done with it; then sixteen busy VMs on each
    model with each number of CPUs. Raises CheckFailed."""
    qemu.ensure()
    command = [sys.executable, "-m", "pytest", "-v", f"--storms={count}"]
    tests = {"storms": "tests/boot/test_storms.py", "crowds": "tests/guests/test_crowds.py"}
    _run_all([Step(name, [*command, path], TEST_SECONDS) for name, path in tests.items()], "soak")


# --- clean ----------------------------------------------------------------------------------------------------------


def clean(*, cache: bool) -> None:
    """Remove what was built in the repository; with `cache` also the user's cache of downloads and toolchains."""
    found = [
        REPOSITORY / "build",
        REPOSITORY / "target",
        *(REPOSITORY / p.workspace / "target" for p in RUST_PARTS),
    ]
    found += [REPOSITORY / "tooling" / "bulkhead" / "_engine"]
    found += [REPOSITORY / name for name in (".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis")]
    for path in [*found, *([cache_dir()] if cache else [])]:
        if path.is_dir():
            say(f"removing {path}")
            shutil.rmtree(path)
