"""What runs have found, in files that the report reads: `build/results/<kind>-<variant>.json`. Trust label: TOOL.

Each file is one JSON object: the data of its kind, and the facts without which no figure can be trusted: which engine
it is about (SHA-256), when it was found, in how many seconds, and the command that finds it again. Outside a checkout
they lie in `bulkhead-results/` of the working directory; `BULKHEAD_RESULTS` names another place.

A reduced run, as tests make, has a file of its own (`<kind>-<variant>.reduced.json`): it replaces no full one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from bulkhead.conformance.backends import native as native_build
from bulkhead.errors import BulkheadError, InvalidInput
from bulkhead.image import build
from bulkhead.provision.paths import REPOSITORY, in_checkout, say, sha256_of

PLACE = "BULKHEAD_RESULTS"
"""Environment variable that names the directory of the results."""
_FACTS = ("kind", "variant", "reduced", "engine", "native", "when", "seconds", "command")


@dataclass(frozen=True)
class Result:
    """What one run has found; `reduced`: less than a full run. `engine` is the SHA-256 of what it ran on: the shipped
    ELF file, or the library of the host build if `native`; `when` is in seconds since 1970, UTC; `command` finds it
    again."""

    kind: str
    variant: str
    reduced: bool
    engine: str
    native: bool
    when: float
    seconds: float | None
    command: str
    data: dict[str, Any]

    @property
    def current(self) -> bool:
        """Whether the engine of today is the one that it is about."""
        return self.engine == known_hash(native=self.native)


def directory() -> Path:
    """Where results lie; need not exist yet. InvalidInput if it is something else than a directory."""
    named = os.environ.get(PLACE)
    if named:
        place = Path(named).expanduser().absolute()
    else:
        place = REPOSITORY / "build" / "results" if in_checkout() else Path.cwd() / "bulkhead-results"
    if place.exists() and not place.is_dir():
        raise _no_directory(place, "this is no directory")
    return place


def put(path: Path, text: str) -> Path:
    """Write a file in one step, below directories that are made if they are missing; the file.

    InvalidInput if no directory can be there; other errors of the operating system, such as a full disk, as they are.
    """
    fresh = _made(path.parent) / f".{path.name}.{os.getpid()}"
    try:
        fresh.write_text(text)
        fresh.replace(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_directory(path.parent, str(error.strerror)) from error
    return path


def _made(place: Path) -> Path:
    """A directory, made if it is missing. Raises as `put`."""
    try:
        place.mkdir(parents=True, exist_ok=True)
    except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        raise _no_directory(place, str(error.strerror)) from error
    return place


def _no_directory(place: Path, why: str) -> InvalidInput:
    hint = f"let {PLACE} name a directory that exists or can be made"
    return InvalidInput(f"results cannot be kept here: {why}", where=place, hint=hint)


def engine_hash(*, native: bool = False) -> str:
    """SHA-256 of the shipped engine's ELF file, or of the host build's library. Raises BuildError."""
    return _native_hash() if native else _shipped_hash(anew=True)


def known_hash(*, native: bool = False) -> str:
    """The same without building anything: empty if today's engine has not been built yet."""
    return _native_hash() if native else _shipped_hash(anew=False)


@cache
def _native_hash() -> str:
    return sha256_of(native_build.library())


def _shipped_hash(*, anew: bool) -> str:
    # Looks at the sources each time: they may be edited while this process lives.
    images = build.build("pinned", "payload") if anew else build.built("pinned", "payload")
    return sha256_of(images.elf) if images else ""


def write(
    kind: str,
    variant: str,
    data: Mapping[str, Any],
    *,
    command: str,
    seconds: float | None = None,
    native: bool | None = None,
    reduced: bool = False,
) -> Path:
    """Keep what a run has found; the file. `kind` and `variant` (for example the backend) name it.

    `command` finds the same again. `native`: about the host build; unless given, if `data["backend"]` or `variant` is
    "host". Replaces the file in one step.
    """
    for word in (kind, variant):
        if not word.replace("_", "").isalnum():
            raise InvalidInput(f"no name of a result: {word!r}", hint="letters, digits and underscores")
    if taken := data.keys() & set(_FACTS):
        raise InvalidInput(
            f"data of a result may not be named {', '.join(sorted(taken))}", where=f"{kind}-{variant}"
        )
    if native is None:
        native = "host" in (data.get("backend"), variant)
    facts = (kind, variant, reduced, engine_hash(native=native), native, time.time(), seconds, command)
    path = directory() / f"{kind}-{variant}{'.reduced' if reduced else ''}.json"
    return put(path, json.dumps({**dict(zip(_FACTS, facts, strict=True)), **data}, indent=1) + "\n")


@contextmanager
def failing(
    kind: str, variant: str, *, command: str, native: bool | None = None, reduced: bool = False
) -> Iterator[None]:
    """A run that ends by an error leaves a result that says so, in place of an earlier one that was well.

    Only what the user has asked wrongly (InvalidInput) says nothing about the engine. InvalidInput before it begins if
    no result could be kept.
    """
    _made(directory())
    try:
        yield
    except InvalidInput:
        raise
    except Exception as error:
        text = str(error) if isinstance(error, BulkheadError) else f"{type(error).__name__}: {error}"
        try:
            write(kind, variant, {"failures": [text]}, command=command, native=native, reduced=reduced)
        except (BulkheadError, OSError) as second:  # which must not hide the first
            say(f"the report will not say that this run has failed: {second}")
        raise


def read(path: Path) -> Result:
    """One file. InvalidInput if it is no result."""
    try:
        document = json.loads(path.read_text())
        facts = {name: document.pop(name) for name in _FACTS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"this is no result of a run: {error!r}", where=path, hint="remove it and run again"
        ) from error
    return Result(**facts, data=document)


def read_all() -> list[Result]:
    """All that there are, by kind and variant. InvalidInput if one cannot be read."""
    return [read(path) for path in sorted(directory().glob("*.json"))]
