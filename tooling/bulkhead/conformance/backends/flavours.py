"""Builds of the host library that watch the engine: counting, for a fuzzer, with sanitizers. Trust label: TOOL.

They have the same sources, profile and interface as the library of the package (`native`), and overflow checks as the
image has; `native.CHOSEN` makes a process load one of them. Cargo knows what has to be built again.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bulkhead.conformance.backends import native
from bulkhead.errors import BuildError
from bulkhead.image.build import checkout
from bulkhead.image.variant import Edit, copy_sources
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


def build(flavour: Flavour, edits: Sequence[Edit] = ()) -> Path:
    """The library of this flavour, of the sources with these edits. Raises BuildError, InvalidInput."""
    place = Place.of(flavour, edits)
    cargo(flavour, ["build", "--lib", "--package", "bulkhead-host"], place)
    return place.target / TARGET / "host" / "libbulkhead_host.so"


@dataclass(frozen=True)
class Place:
    """Sources, and where what is built of them goes."""

    tree: Path
    target: Path

    @classmethod
    def of(cls, flavour: Flavour, edits: Sequence[Edit] = ()) -> Place:
        """This checkout, or a copy of it with the edits, which keeps what was built of it."""
        directory = REPOSITORY / "build" / "host" / flavour.name
        if not edits:
            return cls(REPOSITORY, directory)
        directory = directory.with_name(
            f"{flavour.name}-{hashlib.sha256(repr(edits).encode()).hexdigest()[:8]}"
        )
        copy_sources(directory / "tree", edits)
        return cls(directory / "tree", directory / "target")


def cargo(
    flavour: Flavour,
    command: Sequence[str],
    place: Place,
    env: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
) -> str:
    """Runs a command of cargo on packages of the host library; what it printed. Raises BuildError.

    `env` is added to the environment, `arguments` are those of the program that cargo runs.
    """
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
        *("--target-dir", str(place.target), *(["--", *arguments] if arguments else [])),
    ]
    environment = tools.env() | {"RUSTFLAGS": " ".join(flavour.rustflags)} | dict(env or {})
    if flavour.unstable:
        environment["RUSTC_BOOTSTRAP"] = "1"
    limit = native.BUILD_LIMIT
    with locked(f"host-{flavour.name}-{checkout()}"):
        try:
            done = subprocess.run(
                line, cwd=place.tree / "engine", env=environment, capture_output=True, text=True, timeout=limit,
                check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"no end after {limit} s", where=" ".join(line)) from error
    if done.returncode:
        said = f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}".strip()
        raise BuildError(f"the host library as {flavour.name}: cargo failed\n{said}", where=" ".join(line))
    return done.stdout
