"""What was proved of which bytes, by what: a machine-readable record, and the cache that it makes possible.

A theorem is proved again when the ELF file, the specification, the prover or a solver changes, else its record from
last time is kept. The certificate names the hash of the bootable image whose code is that of the ELF file.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bulkhead.abi import TABLE
from bulkhead.errors import CheckFailed

from .contracts import ASSUMED
from .exec.image import Image
from .layout import LAYOUT_SOURCE, window
from .theorems import ASSUMPTIONS, Evidence, Theorem

PACKAGE = Path(__file__).resolve().parents[1]
TOOLS = ("z3-solver", "bitwuzla", "pyelftools")
FORMAT = 1
FLAT_HEADER = 64
"""Bytes of the arm64 Image header, which the assembly of the boot file completes."""


def digest(paths: Iterator[Path]) -> str:
    """SHA-256 over names and contents."""
    total = hashlib.sha256()
    for path in sorted(paths):
        content = path.read_bytes()
        total.update(f"{path.name} {len(content)}\n".encode())
        total.update(content)
    return total.hexdigest()


def specification_digest() -> str:
    """Of the specification and of the table of calls that it refers to."""
    return digest(iter([*(PACKAGE / "spec").rglob("*.py"), TABLE]))


def prover_digest() -> str:
    """Of the prover and of the layout that it reads."""
    return digest(iter([*(PACKAGE / "prove").rglob("*.py"), LAYOUT_SOURCE]))


def tools() -> dict[str, str]:
    """Versions of what the proofs rest on."""
    return {"python": platform.python_version(), **{name: version(name) for name in TOOLS}}


def check_same_code(image: Image, boot_file: Path) -> None:
    """The code and constants of the ELF file are those of the bootable file; CheckFailed if not."""
    flat = boot_file.read_bytes()
    start = window("IMAGE")
    for section in image.sections:
        if section.writable or not section.data:
            continue
        skipped = FLAT_HEADER if section.address == start else 0
        offset = section.address - start
        if flat[offset + skipped : offset + len(section.data)] != section.data[skipped:]:
            raise CheckFailed(
                f"section {section.name} of the ELF file differs from the bootable file",
                where=boot_file,
                hint="build again; the proofs are about the ELF file and must be about what boots",
            )


class Records:
    """Evidence of earlier proofs, one file for each theorem and set of inputs."""

    def __init__(self, directory: Path, image: Image) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        inputs = [image.sha256, specification_digest(), prover_digest(), json.dumps(tools())]
        self._inputs = "\n".join(inputs)

    def _path(self, theorem: Theorem) -> Path:
        key = hashlib.sha256(f"{theorem.name}\n{self._inputs}".encode()).hexdigest()
        return self.directory / f"{key[:32]}.json"

    def find(self, theorem: Theorem) -> Evidence | None:
        """The evidence from a proof with the same inputs."""
        try:
            stored = json.loads(self._path(theorem).read_text())
            return Evidence(stored["seconds"], stored["details"])
        except (OSError, ValueError, KeyError):
            return None

    def keep(self, theorem: Theorem, evidence: Evidence) -> None:
        """Remember the evidence."""
        self._path(theorem).write_text(json.dumps(asdict(evidence)))


def certificate(
    image: Image, boot_file: Path, toolchain: str, proved: dict[Theorem, Evidence], failed: dict[Theorem, str]
) -> dict[str, Any]:
    """The record of one run, complete only if nothing failed."""
    return {
        "format": FORMAT,
        "complete": not failed,
        "image_sha256": hashlib.sha256(boot_file.read_bytes()).hexdigest(),
        "elf_sha256": image.sha256,
        "specification_sha256": specification_digest(),
        "prover_sha256": prover_digest(),
        "tools": {**tools(), "compiler": toolchain},
        "proved": [
            {"subject": theorem.subject, "claim": theorem.claim, **asdict(evidence)}
            for theorem, evidence in proved.items()
        ],
        "failed": [
            {"subject": theorem.subject, "claim": theorem.claim, "why": why}
            for theorem, why in failed.items()
        ],
        "contracts_assumed": list(ASSUMED),
        "assumptions": list(ASSUMPTIONS),
    }
