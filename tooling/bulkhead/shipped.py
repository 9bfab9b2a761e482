"""What an installed package carries in place of the checkout: images, ELF files, tables. Trust label: TOOL.

`inv wheel` puts them beside this file, under the paths that they have in the checkout, with a manifest of their hashes.
Whoever reads a file of the checkout at run time, or boots an image, is led here, and nowhere else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bulkhead.errors import InvalidInput, ProvisionError
from bulkhead.provision.paths import REPOSITORY, in_checkout, sha256_of

CARRIED = Path(__file__).with_name("_shipped")
MANIFEST = "manifest.json"
TABLES = ("engine/abi/abi.toml", "engine/arch/registers", "engine/Cargo.toml")
"""Files of the checkout, and a directory of files, that are read at run time."""
IMAGES = ("elf", "image", "host_elf", "host_image")
"""The files of a build (`image/build.py`, `Images`)."""


def table(path: str) -> Path:
    """One of TABLES. Raises ProvisionError if the package lacks it."""
    place = REPOSITORY if in_checkout() else CARRIED
    if not (place / path).exists():
        raise _lacking(place / path)
    return place / path


def manifest() -> dict[str, Any]:
    """What the package says that it carries. Raises ProvisionError if it carries nothing.

    `version`; `toolchain`; `images`: host program → the files of its build, by name; `sha256`: file → hash.
    """
    try:
        document: dict[str, Any] = json.loads((CARRIED / MANIFEST).read_text())
    except (OSError, ValueError) as error:
        raise _lacking(CARRIED / MANIFEST) from error
    return document


def images(host_program: str, variant: str) -> dict[str, Path]:
    """The files of a build that the package carries, by their names in `Images`.

    `variant` names toolchain and features of the engine. Raises ProvisionError if they are missing or damaged,
    InvalidInput for another variant than the shipped one.
    """
    if variant != "pinned":
        raise InvalidInput(
            "an installed package carries the shipped image only, by the pinned toolchain", where=f"variant {variant}",
            hint="leave the option away, or build in a checkout",
        )  # fmt: skip
    document = manifest()
    files = {name: CARRIED / file for name, file in document["images"][host_program].items()}
    damaged = [path for path in files.values() if not _whole(path, document)]
    if damaged:
        raise _lacking(damaged[0])
    return files


def damaged() -> list[Path]:
    """Files that are missing, or not as the manifest has them."""
    document = manifest()
    return [CARRIED / name for name in document["sha256"] if not _whole(CARRIED / name, document)]


def _whole(path: Path, document: dict[str, Any]) -> bool:
    expected = document["sha256"][path.relative_to(CARRIED).as_posix()]
    return path.is_file() and sha256_of(path) == expected


def _lacking(path: Path) -> ProvisionError:
    return ProvisionError(
        "this installation lacks a file, or has a damaged one", where=path,
        hint="install the wheel again that `python3 tasks.py wheel` builds in a checkout",
    )  # fmt: skip
