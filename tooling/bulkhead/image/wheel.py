"""The wheel: this package, the host library, and all that it needs where there is no checkout. Trust label: TOOL.

maturin makes it from a copy of the sources, to which images and tables are added, and names in its tag the oldest C
library that the host library runs with. The same sources make the same bytes, wherever the checkout is.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import get_args

from bulkhead import abi, shipped
from bulkhead.conformance.backends import native
from bulkhead.errors import BuildError
from bulkhead.image.build import BUILD, HostProgram, Images, build, checkout
from bulkhead.provision import pins, toolchain
from bulkhead.provision.paths import REPOSITORY, cache_dir, locked, sha256_of
from bulkhead.provision.toolchain import Toolchain

WHEELS = BUILD / "wheel"
EPOCH = "315532800"
"""The time of every file in the wheel: 1980-01-01, the first that a ZIP file can have."""
_SOURCES = ("pyproject.toml", "LICENSE-APACHE", "LICENSE-MIT", "engine", "tooling")
_NOT_COPIED = shutil.ignore_patterns("target", "_engine", "__pycache__", "*.so", "docs")


def build_wheel(directory: Path = WHEELS) -> Path:
    """Build the wheel in `directory` in place of any older one; its file. Raises BuildError."""
    images = {program: build("pinned", program) for program in get_args(HostProgram)}
    place = cache_dir() / "wheels" / checkout()
    with locked(f"wheel-{checkout()}"), tempfile.TemporaryDirectory(prefix="bulkhead-") as fresh:
        tree = place / "tree"
        _copy(tree)
        _carry(tree / shipped.CARRIED.relative_to(REPOSITORY), images)
        options = ("--locked", "--target-dir", str(place / "target"), "--out", fresh)
        native.maturin("build", *options, tree=tree, env=_environment(toolchain.ensure("pinned"), tree))
        made = list(Path(fresh).glob("bulkhead-*.whl"))
        if len(made) != 1:
            raise BuildError("maturin made no wheel", where=fresh)
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.glob("bulkhead-*.whl"):
            old.unlink()
        return Path(shutil.move(made[0], directory))


def _environment(tools: Toolchain, tree: Path) -> dict[str, str]:
    """For a library that does not tell where it was built, nor when."""
    remap = pins.flags()["remap"]
    names = {tools.cargo_home: remap["cargo_home"], tree: remap["repository"]}
    flags = " ".join(f"--remap-path-prefix={path}={name}" for path, name in names.items())
    return {**tools.env(), "SOURCE_DATE_EPOCH": EPOCH, "RUSTFLAGS": flags}


def _copy(tree: Path) -> None:
    """The sources with their times, so that cargo compiles what has changed."""
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    for name in _SOURCES:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, tree / name, ignore=_NOT_COPIED)
        else:
            shutil.copy2(REPOSITORY / name, tree / name)


def _carry(into: Path, images: dict[HostProgram, Images]) -> None:
    """What an installed package carries, under names that say where it comes from, and the manifest.

    The engine's ELF file is the same in all images, and there once.
    """
    tables = [path for name in shipped.TABLES for path in _files(REPOSITORY / name)]
    files = {path.relative_to(REPOSITORY).as_posix(): path for path in tables}
    lists = {}
    for program, made in images.items():
        names = {name: f"{program}/{getattr(made, name).name}" for name in shipped.IMAGES}
        names["elf"] = made.elf.name
        lists[program] = names
        files |= {file: getattr(made, name) for name, file in names.items()}
    if len({sha256_of(made.elf) for made in images.values()}) != 1:
        raise BuildError(
            "the images hold different engines", where=BUILD, hint="remove build/ and build again"
        )
    for name, source in files.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, into / name)
        (into / name).chmod(0o644)
    document = {
        "version": abi.release(),
        "toolchain": next(iter(images.values())).toolchain,
        "images": lists,
        "sha256": {name: sha256_of(into / name) for name in sorted(files)},
    }
    (into / shipped.MANIFEST).write_text(json.dumps(document, indent=1) + "\n")


def _files(path: Path) -> list[Path]:
    """The file, or the tables in the directory."""
    return sorted(path.glob("*.toml")) if path.is_dir() else [path]


def main() -> None:
    """Build it and say what it is."""
    wheel = build_wheel()
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256_of(wheel)}")
    print(f"  pip install {wheel}")
