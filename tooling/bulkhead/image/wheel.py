"""The wheel: this package, the host library, and all that it needs where there is no checkout. Trust label: TOOL.

maturin makes it, and names in its tag the oldest C library that the host library runs with. The same sources make the
same bytes.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

from bulkhead import abi, shipped
from bulkhead.conformance import native
from bulkhead.errors import BuildError
from bulkhead.image.build import BUILD, HostProgram, Images, build, checkout
from bulkhead.provision import pins, toolchain
from bulkhead.provision.paths import REPOSITORY, locked, sha256_of
from bulkhead.provision.toolchain import Toolchain

WHEELS = BUILD / "wheel"
EPOCH = "315532800"
"""The time of every file in the wheel: 1980-01-01, the first that a ZIP file can have."""


def build_wheel(directory: Path = WHEELS) -> Path:
    """Build the wheel in `directory` in place of any older one; its file. Raises BuildError."""
    images = {program: build("pinned", program) for program in get_args(HostProgram)}
    env = _environment(toolchain.ensure("pinned"))
    with locked(f"wheel-{checkout()}"), tempfile.TemporaryDirectory(prefix="bulkhead-") as fresh, _carried(images):
        options = ("--locked", "--target-dir", str(BUILD / "target" / "wheel"), "--out", fresh)
        native.maturin("build", *options, env=env)
        made = list(Path(fresh).glob("bulkhead-*.whl"))
        if len(made) != 1:
            raise BuildError("maturin made no wheel", where=fresh)
        directory.mkdir(parents=True, exist_ok=True)
        for old in directory.glob("bulkhead-*.whl"):
            old.unlink()
        return Path(shutil.move(made[0], directory))


def _environment(tools: Toolchain) -> dict[str, str]:
    """For a library that does not tell where it was built, nor when."""
    remap = pins.flags()["remap"]
    names = {tools.cargo_home: remap["cargo_home"], REPOSITORY: remap["repository"]}
    flags = " ".join(f"--remap-path-prefix={path}={name}" for path, name in names.items())
    return {**tools.env(), "SOURCE_DATE_EPOCH": EPOCH, "RUSTFLAGS": flags}


@contextmanager
def _carried(images: dict[HostProgram, Images]) -> Iterator[None]:
    """For a while the files lie in the package's directory, where maturin takes them from."""
    shutil.rmtree(shipped.CARRIED, ignore_errors=True)
    try:
        _place(shipped.CARRIED, images)
        yield
    finally:
        shutil.rmtree(shipped.CARRIED, ignore_errors=True)


def _place(into: Path, images: dict[HostProgram, Images]) -> None:
    """Copies, under names that say where they come from, and the manifest. The engine's ELF file is there once."""
    files = {name: REPOSITORY / name for name in shipped.TABLES}
    lists = {}
    for program, made in images.items():
        names = {name: f"{program}/{getattr(made, name).name}" for name in shipped.IMAGES}
        names["elf"] = made.elf.name
        lists[program] = names
        files |= {file: getattr(made, name) for name, file in names.items()}
    if len({sha256_of(made.elf) for made in images.values()}) != 1:
        raise BuildError("the images hold different engines", where=BUILD, hint="remove build/ and build again")
    for name, source in files.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, into / name)
    document = {
        "version": abi.release(),
        "toolchain": next(iter(images.values())).toolchain,
        "images": lists,
        "sha256": {name: sha256_of(into / name) for name in sorted(files)},
    }
    (into / shipped.MANIFEST).write_text(json.dumps(document, indent=1) + "\n")
    for path in into.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def main() -> None:
    """Build it and say what it is."""
    wheel = build_wheel()
    print(f"{wheel}: {wheel.stat().st_size / 1e6:.1f} MB, SHA-256 {sha256_of(wheel)}")
    print(f"  pip install {wheel}")
