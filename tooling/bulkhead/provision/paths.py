"""Where things are: the repository and the cache. Trust label: TOOL."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bulkhead.errors import InvalidInput

REPOSITORY = Path(__file__).resolve().parents[3]
"""The checkout; where the package is installed without one, a directory that has nothing of it."""


def in_checkout() -> bool:
    """Whether the sources of the engine are there, so that this is not an installed package."""
    return (REPOSITORY / "engine" / "Cargo.toml").is_file()


def runner() -> str:
    """What somebody types before the name of a task: `inv` in a checkout, else the installed command."""
    return "inv" if in_checkout() else "bulkhead"


def say(line: str) -> None:
    """Tell the user, in one line on stderr, what is being done."""
    print(f"bulkhead: {line}", file=sys.stderr, flush=True)


def cache_dir() -> Path:
    """The cache: `$BULKHEAD_CACHE`, else `$XDG_CACHE_HOME/bulkhead`, else `~/.cache/bulkhead`; created if missing.

    Raises InvalidInput if the path contains white space, which the flags given to cargo could not carry.
    """
    explicit = os.environ.get("BULKHEAD_CACHE")
    xdg = os.environ.get("XDG_CACHE_HOME")
    base = Path(explicit) if explicit else (Path(xdg) if xdg else Path.home() / ".cache") / "bulkhead"
    base = base.expanduser().absolute()
    if any(character.isspace() for character in str(base)):
        raise InvalidInput(
            "the cache path contains white space", where=base, hint="set BULKHEAD_CACHE to a path without any"
        )
    base.mkdir(parents=True, exist_ok=True)
    return base


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold the cache's lock `name`, so that two runs never provide the same thing at the same time."""
    path = cache_dir() / f"{name}.lock"
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def make_once(target: Path, fill: Callable[[Path], None]) -> Path:
    """Return directory `target`, made by `fill(temporary)` and a rename, so that it exists whole or not at all."""
    if target.is_dir():
        return target
    with locked(target.name):
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            fill(temporary)
            temporary.chmod(0o755)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target
