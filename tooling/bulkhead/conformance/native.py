"""The engine's decisions as a library (`engine/host`), built by maturin as `bulkhead._engine`.

Trust label: TOOL.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from bulkhead.errors import BuildError

ROOT = Path(__file__).resolve().parents[3]
MANIFEST = ROOT / "engine" / "host" / "Cargo.toml"
BUILD_LIMIT = 600
"""Seconds that a build may take."""


def build() -> None:
    """Compile the library and put it beside this package (an editable install). Raises BuildError."""
    command = [sys.executable, "-m", "maturin", "develop", "--profile", "host"]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_LIMIT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"the host build could not run: {error}", where=MANIFEST) from error
    if done.returncode:
        raise BuildError(f"the host build failed:\n{done.stderr[-4000:]}", where=MANIFEST)


@cache
def engine() -> tuple[Any, Any]:
    """(ffi, lib) of the library. Raises BuildError if it has not been built."""
    try:
        module = importlib.import_module("bulkhead._engine")
    except ImportError as error:
        raise BuildError(
            "the host build of the engine is missing",
            where="bulkhead._engine",
            hint="python3 tasks.py setup",
        ) from error
    return module.ffi, module.lib


def library() -> Path:
    """File of the library that `engine` has loaded. Raises BuildError."""
    engine()
    place = Path(str(importlib.import_module("bulkhead._engine").__file__)).parent
    return next(path for path in sorted(place.iterdir()) if path.suffix in (".so", ".dylib", ".dll"))
