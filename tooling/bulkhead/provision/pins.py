"""The pins: which Debian packages, by version, suite, architecture and SHA-256. Trust label: TOOL."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PINS_FILE = Path(__file__).with_name("pins.toml")
FLAGS_FILE = Path(__file__).with_name("flags.toml")


@dataclass(frozen=True)
class Pin:
    """One Debian package, exactly. `size` is in bytes, `sha256` is that of the .deb file."""

    name: str
    version: str
    arch: str
    suite: str
    size: int
    sha256: str

    @property
    def spec(self) -> str:
        """The package as apt's command line names it."""
        arch = "" if self.arch == "all" else f":{self.arch}"
        return f"{self.name}{arch}={self.version}"


@cache
def _document() -> dict[str, Any]:
    return tomllib.loads(PINS_FILE.read_text())


def group(*path: str) -> tuple[Pin, ...]:
    """All pins of one group of pins.toml, for example `group("toolchain", "compiler")`."""
    node: Any = _document()
    for key in path:
        node = node[key]
    return tuple(Pin(**entry) for entry in node)


def pin(name: str, *path: str) -> Pin:
    """The pin of package `name` in a group."""
    return next(entry for entry in group(*path) if entry.name == name)


def setting(*path: str) -> Any:
    """A plain value of pins.toml, for example `setting("qemu", "package")`."""
    node: Any = _document()
    for key in path:
        node = node[key]
    return node


@cache
def flags() -> dict[str, Any]:
    """The fixed compiler flags (flags.toml)."""
    return tomllib.loads(FLAGS_FILE.read_text())
