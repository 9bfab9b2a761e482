"""The engine's decisions as a library (`engine/host`), built by maturin as `bulkhead._engine`.

Trust label: TOOL. `BULKHEAD_HOST_LIBRARY` names another library of the same interface for a process: one that counts,
one with sanitizers, one with a seeded defect.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from bulkhead.errors import BuildError

ROOT = Path(__file__).resolve().parents[4]
MANIFEST = ROOT / "engine" / "host" / "Cargo.toml"
BUILD_LIMIT = 600
"""Seconds that a build may take."""
CHOSEN = "BULKHEAD_HOST_LIBRARY"
"""Environment variable: the file of a library to load in place of the one in this package."""


def build() -> None:
    """Compile the library and put it beside this package (an editable install). Raises BuildError."""
    maturin("develop")


def maturin(command: str, *options: str, tree: Path = ROOT, env: Mapping[str, str] | None = None) -> None:
    """One command of maturin on this checkout or a copy of it, in this process's environment or another.

    Raises BuildError.
    """
    line = [sys.executable, "-m", "maturin", command, "--profile", "host", *options]
    try:
        done = subprocess.run(
            line, cwd=tree, capture_output=True, text=True, timeout=BUILD_LIMIT, check=False, env=env
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the host build could not run: {error}", where=MANIFEST) from error
    if done.returncode:
        raise BuildError(f"the host build failed:\n{done.stderr[-4000:]}", where=MANIFEST)


@cache
def engine() -> tuple[Any, Any]:
    """(ffi, lib) of the library. Raises BuildError if it has not been built, or cannot be loaded."""
    try:
        module = importlib.import_module("bulkhead._engine")
    except ImportError as error:
        raise BuildError(
            "the host build of the engine is missing",
            where="bulkhead._engine",
            hint="python3 tasks.py setup",
        ) from error
    chosen = os.environ.get(CHOSEN)
    if not chosen:
        return module.ffi, module.lib
    try:
        return module.ffi, module.ffi.dlopen(chosen)
    except OSError as error:
        raise BuildError(f"{CHOSEN} names no library that can be loaded: {error}", where=chosen) from error


def library() -> Path:
    """File of the library that `engine` has loaded. Raises BuildError."""
    engine()
    if chosen := os.environ.get(CHOSEN):
        return Path(chosen)
    place = Path(str(importlib.import_module("bulkhead._engine").__file__)).parent
    return next(path for path in sorted(place.iterdir()) if path.suffix in (".so", ".dylib", ".dll"))
