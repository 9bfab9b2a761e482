"""Builds of the host library that watch the engine: counting, for a fuzzer, with sanitizers. Trust label: TOOL.

They have the same sources, profile and interface as the library of the package (`native`), and overflow checks as the
image has; `native.CHOSEN` makes a process load one of them. Cargo knows what has to be built again.
"""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from bulkhead.conformance import native
from bulkhead.errors import BuildError
from bulkhead.image.build import checkout
from bulkhead.provision import toolchain
from bulkhead.provision.paths import REPOSITORY, locked

TARGET = "x86_64-unknown-linux-gnu"
"""Named to cargo, so that the flags are not those of build scripts."""


@dataclass(frozen=True)
class Flavour:
    """Flags of rustc for everything in the library. `unstable`: some are accepted under RUSTC_BOOTSTRAP=1 only."""

    name: str
    rustflags: tuple[str, ...]
    unstable: bool = False


COVERAGE = Flavour("coverage", ("-Cinstrument-coverage", "-Zcoverage-options=branch"), unstable=True)


def build(flavour: Flavour, tree: Path = REPOSITORY) -> Path:
    """The library of this flavour, from the sources in `tree`. Raises BuildError."""
    directory = (
        REPOSITORY
        / "build"
        / "host"
        / (flavour.name if tree == REPOSITORY else f"{flavour.name}-{tree.name}")
    )
    cargo(flavour, ["build", "--lib"], directory, tree)
    return directory / TARGET / "host" / "libbulkhead_host.so"


def cargo(flavour: Flavour, command: list[str], directory: Path, tree: Path = REPOSITORY) -> str:
    """Runs a command of cargo on the package of the host library; what it printed. Raises BuildError."""
    tools = toolchain.ensure("pinned")
    line = [
        *(
            str(tools.cargo),
            *command,
            "--profile",
            "host",
            "--locked",
            "--quiet",
            "-j",
            "2",
            "--target",
            TARGET,
        ),
        *("--package", "bulkhead-host", "--target-dir", str(directory)),
    ]
    env = tools.env() | {"RUSTFLAGS": " ".join(flavour.rustflags)}
    if flavour.unstable:
        env["RUSTC_BOOTSTRAP"] = "1"
    limit = native.BUILD_LIMIT
    with locked(f"host-{flavour.name}-{checkout()}"):
        try:
            done = subprocess.run(
                line, cwd=tree / "engine", env=env, capture_output=True, text=True, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"no end after {limit} s", where=" ".join(line)) from error
    if done.returncode:
        raise BuildError(
            f"{flavour.name} of the host library failed:\n{done.stderr[-4000:]}", where=" ".join(line)
        )
    return done.stdout
