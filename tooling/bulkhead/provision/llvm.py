"""LLVM's tools and run-time libraries of the release that the pinned compiler has inside. Trust label: TOOL.

Debian packages by hash (pins.toml), unpacked into the cache; no root. What they make is read by tests only.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bulkhead.provision import apt, pins, toolchain
from bulkhead.provision.paths import cache_dir, make_once, say

_TOOLS = ("llvm-cov", "llvm-profdata", "llvm-symbolizer")
_HOME = Path("usr/lib/llvm-19")


@dataclass(frozen=True)
class Llvm:
    """Where the tools are, and what they need to run."""

    root: Path
    library_paths: tuple[Path, ...]

    def tool(self, name: str) -> Path:
        """A program: `llvm-cov`, `llvm-profdata`, `llvm-symbolizer`."""
        return self.root / _HOME / "bin" / name

    def runtime(self, name: str) -> Path:
        """A run-time library of compiler-rt for x86_64, for example `asan.so` or `fuzzer_no_main.a`."""
        stem, _, suffix = name.partition(".")
        return self.root / _HOME / "lib/clang/19/lib/linux" / f"libclang_rt.{stem}-x86_64.{suffix}"

    def env(self) -> dict[str, str]:
        """This process's environment, in which the tools find their libraries."""
        inherited = os.environ.get("LD_LIBRARY_PATH")
        return {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join([*map(str, self.library_paths), *([inherited] if inherited else [])]),
        }


@cache
def ensure() -> Llvm:
    """Provide them, downloading what the cache lacks. Raises BulkheadError."""
    libraries = toolchain.ensure("pinned").library_paths
    hashes = sorted(pin.sha256 for pin in pins.group("llvm", "packages"))
    name = f"llvm-{hashlib.sha256(''.join(hashes).encode()).hexdigest()[:16]}"
    root = make_once(cache_dir() / "toolchains" / name, lambda into: _unpack(into, libraries))
    return Llvm(root, (*libraries, root / "lacking"))


def _unpack(into: Path, libraries: tuple[Path, ...]) -> None:
    debs = apt.fetch(pins.group("llvm", "packages"))
    say("unpacking LLVM's tools and run-time libraries")
    for deb in debs.values():
        apt.unpack(deb, into)
    programs = [into / _HOME / "bin" / name for name in _TOOLS]
    toolchain.complete_libraries(into, programs, *libraries)
