"""Engines that differ from the one in this checkout by exact edits of its sources: to see what a test notices.

Trust label: TOOL. The sources are copied into the cache, the edits applied there, what is generated is generated again,
and the result is built like the shipped image, with the same host program, but without optimisation across crates,
which takes seconds; or as the library of the host build. The copies keep their build directories, so
that only what an edit touches is compiled anew; a result is kept under the hash of its sources and edits.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bulkhead.errors import BuildError, InvalidInput
from bulkhead.image.build import HostProgram, Images, assemble, build, cargo, checkout
from bulkhead.provision.paths import REPOSITORY, cache_dir, locked, sha256_of
from bulkhead.provision.toolchain import Toolchain, ensure

_TREES = {"engine": {".rs", ".toml", ".lock", ".ld", ".S", ".h"}, "tooling": {".py", ".toml"}}
"""What is copied: directory, and the suffixes of its files."""
_TABLE = "engine/abi/"
_GENERATORS = {"tooling/bulkhead/image/memory_map.py": "bulkhead.image.memory_map"}
"""A file whose edit changes generated sources, and the module that generates them."""
_GENERATE_SECONDS = 60
_LIBRARY = "bulkhead-host"
_LIBRARY_SECONDS = 300
_LIBRARY_QUICKLY = {
    "CARGO_PROFILE_HOST_INCREMENTAL": "true",
    "CARGO_PROFILE_HOST_OPT_LEVEL": "1",
    "CARGO_PROFILE_HOST_DEBUG": "0",
}


@dataclass(frozen=True)
class Edit:
    """In `file` (from the repository's root) the text `old`, which is there exactly once, becomes `new`."""

    file: str
    old: str
    new: str

    def apply(self, text: str) -> str:
        """The edited text. InvalidInput if `old` is not there exactly once."""
        found = text.count(self.old)
        if found != 1:
            raise InvalidInput(
                f"the text to replace is there {found} times, not once: {self.old.strip().splitlines()[0]!r}",
                where=self.file,
                hint="the source has changed: write the edit anew",
            )
        return text.replace(self.old, self.new)


def check(edits: Sequence[Edit]) -> None:
    """Refuses edits that do not fit the sources of this checkout (InvalidInput)."""
    _edited(edits)


def build_variant(
    edits: Sequence[Edit], host_program: HostProgram = "payload", features: Sequence[str] = ()
) -> Images:
    """The image of an engine with these edits and features. InvalidInput for an edit that does not fit, BuildError.

    An edit of the table of calls goes into the host program, too, which accepts no other than its own.
    """
    shipped = build("pinned", host_program)
    changed = _edited(edits)
    place = cache_dir() / "variants" / checkout()
    with locked(f"variants-{checkout()}"):
        kept = _kept(place / "images", shipped.sha256, changed, features)
        if (images := _images(kept, shipped, host_program)).image.is_file():
            return images
        _copy(place / "tree", changed)
        _generate(place / "tree", changed)
        tools = ensure("pinned")
        engine = place / "tree" / "engine"
        elf = cargo(tools, engine, place / "target", "bulkhead-image", "bulkhead", features, quickly=True)
        other_table = any(file.startswith(_TABLE) for file in changed)
        host_elf = _program(place, host_program, tools) if other_table else shipped.host_elf
        kept.mkdir(parents=True, exist_ok=True)
        return assemble(kept, elf, host_elf, host_program, shipped.toolchain)


def _program(place: Path, host_program: HostProgram, tools: Toolchain) -> Path:
    """The host program with the edited table of calls, which it reaches by a link to the engine beside it."""
    shim = copy_program(place)
    return cargo(tools, shim, place / "program" / "target", f"bulkhead-{host_program}", host_program, quickly=True)


def copy_program(place: Path) -> Path:
    """A fresh copy of the host programs below `place`, whose files keep their times, for cargo's sake."""
    shim = place / "program" / "hypervisor-shim"
    shutil.rmtree(shim, ignore_errors=True)
    shutil.copytree(REPOSITORY / shim.name, shim, symlinks=True, ignore=shutil.ignore_patterns("target"))
    beside = shim.parent / "engine"
    if not beside.is_symlink():
        beside.symlink_to(place / "tree" / "engine")
    return shim


def build_library(edits: Sequence[Edit]) -> Path:
    """The host build's library of an engine with these edits. Raises as `build_variant`."""
    changed = _edited(edits)
    place = cache_dir() / "variants" / checkout()
    with locked(f"libraries-{checkout()}"):
        library = _kept(place / "libraries", _sources_hash(), changed) / "lib_engine.so"
        if not library.is_file():
            _copy(place / "library-tree", changed)
            built = _cargo_library(place / "library-tree" / "engine", place / "library-target")
            library.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(built, fresh := library.with_suffix(".new"))
            fresh.replace(library)
    return library


def copy_sources(tree: Path, edits: Sequence[Edit]) -> None:
    """Makes `tree` the sources with these edits. InvalidInput for one that does not fit."""
    changed = _edited(edits)
    _copy(tree, changed)
    _generate(tree, changed)


def _cargo_library(engine: Path, target: Path) -> Path:
    """Builds `engine/host`, quickly; the library's file."""
    tools = ensure("pinned")
    command = [
        *(str(tools.cargo), "build", "--profile", "host", "--locked", "--quiet", "-j", "2", "--package", _LIBRARY),
        *("--lib", "--manifest-path", str(engine / "Cargo.toml"), "--target-dir", str(target)),
    ]
    env = tools.env() | _LIBRARY_QUICKLY
    try:
        done = subprocess.run(
            command, cwd=engine, env=env, capture_output=True, text=True, timeout=_LIBRARY_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"building {_LIBRARY} took more than {_LIBRARY_SECONDS} s", where=engine) from error
    if done.returncode:
        raise BuildError(f"{_LIBRARY} does not build\n{done.stderr.strip()}", where=" ".join(command))
    return target / "host" / f"lib{_LIBRARY.replace('-', '_')}.so"


def _edited(edits: Sequence[Edit]) -> dict[str, str]:
    """File → its text with all edits applied, one after the other."""
    texts: dict[str, str] = {}
    for edit in edits:
        path = REPOSITORY / edit.file
        if edit.file not in texts and not (path.is_file() and edit.file.split("/")[0] in _TREES):
            raise InvalidInput("there is no such source file to edit", where=edit.file)
        texts[edit.file] = edit.apply(texts.get(edit.file) or path.read_text())
    return texts


def _kept(place: Path, base: str, changed: dict[str, str], features: Sequence[str] = ()) -> Path:
    """Where below `place` this variant of sources `base` is kept. Variants of other sources are removed."""
    current = place / base[:16]
    for other in place.glob("*"):
        if other != current:
            shutil.rmtree(other, ignore_errors=True)
    digest = hashlib.sha256(repr((sorted(changed.items()), *features)).encode())
    return current / digest.hexdigest()[:16]


def _images(kept: Path, shipped: Images, host_program: str) -> Images:
    elf, image = kept / "bulkhead.elf", kept / "bulkhead.img"
    host_elf, host_image = kept / f"{host_program}.elf", kept / f"{host_program}.img"
    digest = sha256_of(image) if image.is_file() else ""
    return Images(elf, image, host_elf, host_image, shipped.toolchain, digest)


def _sources_hash() -> str:
    """Of everything that a library is made of."""
    digest = hashlib.sha256()
    for path in _sources():
        if path.parts[0] == "engine":
            digest.update(f"{path} {sha256_of(REPOSITORY / path)}\n".encode())
    return digest.hexdigest()


def _sources() -> Iterator[Path]:
    for tree, suffixes in _TREES.items():
        for path in sorted((REPOSITORY / tree).rglob("*")):
            inside = path.relative_to(REPOSITORY)
            if path.suffix in suffixes and "target" not in inside.parts and "_engine" not in inside.parts:
                yield inside


def _copy(tree: Path, changed: dict[str, str]) -> None:
    """Makes `tree` the sources with the edits. A file that is right already keeps its time, for cargo's sake."""
    wanted = {path: changed.get(str(path)) or (REPOSITORY / path).read_text() for path in _sources()}
    for path, text in wanted.items():
        copy = tree / path
        if not (copy.is_file() and copy.read_text() == text):
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
    for copy in tree.rglob("*"):
        if copy.is_file() and copy.relative_to(tree) not in wanted and "__pycache__" not in copy.parts:
            copy.unlink()


def _generate(tree: Path, changed: dict[str, str]) -> None:
    for file in changed.keys() & _GENERATORS.keys():
        command = [sys.executable, "-m", _GENERATORS[file]]
        env = {**os.environ, "PYTHONPATH": str(tree / "tooling"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            command, cwd=tree, env=env, capture_output=True, text=True, timeout=_GENERATE_SECONDS, check=False
        )
        if done.returncode:
            raise BuildError(f"what {file} generates cannot be generated\n{done.stderr.strip()}", where=tree)
