"""Builds the engine and a host program and joins them into one bootable file.

Trust label: TOOL. The boot file is the engine as a flat arm64 Image (bss as zeros) followed by the host program, which
is one too; the engine's header is told the length of both (Linux `Documentation/arch/arm64/booting.rst`).
An unchanged tree is not built again: a stamp beside the result holds the hash of everything that goes in.
`BULKHEAD_IMAGES` names a directory with images that take the place of those that would be built, for a whole process:
those of an engine with a seeded defect (`variant`).
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from bulkhead import shipped
from bulkhead.errors import BuildError
from bulkhead.image import layout
from bulkhead.image.elf import read_program
from bulkhead.image.memory_map import PAGE
from bulkhead.provision import pins
from bulkhead.provision.paths import REPOSITORY, in_checkout, locked, say, sha256_of
from bulkhead.provision.toolchain import Kind, Toolchain, ensure

HostProgram = Literal["shim", "payload"]
BUILD = REPOSITORY / "build"
OTHER = "BULKHEAD_IMAGES"
"""Environment variable that names a directory with other images."""
_IMAGE_SIZE_OFFSET = 16
_MAGIC = b"ARM\x64"
_MAGIC_OFFSET = 56
_SOURCES = ("engine", "hypervisor-shim")
_SUFFIXES = {".rs", ".toml", ".lock", ".ld", ".S"}
_BUILD_SECONDS = 900
_QUICKLY = {
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_DEBUG": "0",
    "CARGO_PROFILE_RELEASE_INCREMENTAL": "true",
}


@dataclass(frozen=True)
class Images:
    """What a build made: ELF files with debug information, flat files, and the bootable file of both programs."""

    elf: Path
    """The engine with symbols and DWARF."""
    image: Path
    """The bootable file, for `-kernel`."""
    host_elf: Path
    """The host program with symbols and DWARF."""
    host_image: Path
    """The host program as a flat arm64 Image."""
    toolchain: str
    """The toolchain in one line."""
    sha256: str
    """SHA-256 of `image`."""


def build(
    toolchain: Kind = "pinned", host_program: HostProgram = "shim", features: Sequence[str] = ()
) -> Images:
    """Build engine and host program in release mode, join and check them; the result lies in `build/`.

    `features` of the engine's image (`engine/image/Cargo.toml`); the shipped one has none. An installed package has
    nothing to build from: there it is what the package carries. Raises BuildError with the compiler's words,
    CheckFailed if the layout of the result is wrong, ProvisionError for a damaged package.
    """
    if other := os.environ.get(OTHER):
        return images_in(Path(other), host_program, f"images named by {OTHER}")
    if not in_checkout():
        carried = shipped.images(host_program, "-".join((toolchain, *features)))
        return Images(
            **carried, toolchain=shipped.manifest()["toolchain"], sha256=sha256_of(carried["image"])
        )
    directory = BUILD / "-".join((host_program, toolchain, *features))
    directory.mkdir(parents=True, exist_ok=True)
    stamp = directory / "stamp.json"
    with locked(f"build-{checkout()}"):
        key = _key(toolchain, features)
        if (images := _unchanged(stamp, key)) is not None:
            return images
        stamp.unlink(missing_ok=True)
        tools = ensure(toolchain)
        say(f"building the engine and the {host_program} with {tools.describe()}")
        target = BUILD / "target"
        elf = cargo(tools, REPOSITORY / "engine", target / "engine", "bulkhead-image", "bulkhead", features)
        shim = REPOSITORY / "hypervisor-shim"
        host_elf = cargo(tools, shim, target / shim.name, f"bulkhead-{host_program}", host_program)
        images = assemble(directory, elf, host_elf, host_program, tools.describe())
        layout.check(layout.read_layout(images.elf, images.host_elf, images.image))
        record = {"key": key, "images": {name: str(value) for name, value in asdict(images).items()}}
        stamp.write_text(json.dumps(record, indent=1))
        return images


def images_in(directory: Path, host_program: HostProgram, description: str) -> Images:
    """The images that `assemble` has put into a directory. BuildError if they are not there."""
    names = ("bulkhead.elf", "bulkhead.img", f"{host_program}.elf", f"{host_program}.img")
    elf, image, host_elf, host_image = paths = [directory / name for name in names]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise BuildError(f"there is no {', '.join(missing)}", where=directory, hint=f"unset {OTHER}, or name another")
    return Images(elf, image, host_elf, host_image, description, sha256_of(image))


def built(toolchain: Kind = "pinned", host_program: HostProgram = "shim") -> Images | None:
    """What `build` would return at once; None if it would have to build."""
    if not in_checkout():
        return build(toolchain, host_program)
    return _unchanged(BUILD / f"{host_program}-{toolchain}" / "stamp.json", _key(toolchain, ()))


def checkout() -> str:
    """Names this checkout in the cache: two of them may build at the same time."""
    return hashlib.sha256(str(REPOSITORY).encode()).hexdigest()[:16]


def _sources() -> Iterator[Path]:
    for top in _SOURCES:
        for path in sorted((REPOSITORY / top).rglob("*")):
            if (
                "target" not in path.relative_to(REPOSITORY).parts
                and path.suffix in _SUFFIXES
                and path.is_file()
            ):
                yield path


def _key(kind: Kind, features: Sequence[str]) -> str:
    """Hash of the sources by path and content, of the pins and flags, of the kind of toolchain, and of features."""
    digest = hashlib.sha256(" ".join((kind, *features)).encode())
    provision = REPOSITORY / "tooling" / "bulkhead" / "provision"
    for path in [*_sources(), provision / "pins.toml", provision / "flags.toml", Path(__file__)]:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(REPOSITORY)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _unchanged(stamp: Path, key: str) -> Images | None:
    """The images of the last build, if the stamp has this key and the files are what it made."""
    try:
        record = json.loads(stamp.read_text())
        names = record["images"]
        images = Images(
            elf=Path(names["elf"]),
            image=Path(names["image"]),
            host_elf=Path(names["host_elf"]),
            host_image=Path(names["host_image"]),
            toolchain=names["toolchain"],
            sha256=names["sha256"],
        )
    except (OSError, ValueError, KeyError):
        return None
    present = all(path.is_file() for path in (images.elf, images.host_elf, images.host_image, images.image))
    return images if record["key"] == key and present and sha256_of(images.image) == images.sha256 else None


def cargo(
    tools: Toolchain,
    workspace: Path,
    directory: Path,
    package: str,
    binary: str,
    features: Sequence[str] = (),
    *,
    quickly: bool = False,
) -> Path:
    """Builds `binary` of `package` for the bare-metal target below `directory`; its ELF file. Raises BuildError.

    `quickly`: without optimisation across crates and without debug information.
    """
    target: str = pins.flags()["target"]
    command = [
        *(str(tools.cargo), "build", "--release", "--locked", "--quiet", "-j", "2"),
        *("--manifest-path", str(workspace / "Cargo.toml"), "--target-dir", str(directory)),
        *("--package", package, "--bin", binary, "--target", target),
        *(word for feature in features for word in ("--features", f"{package}/{feature}")),
    ]
    try:
        done = subprocess.run(
            command,
            cwd=workspace,
            env=tools.env() | (_QUICKLY if quickly else {}),
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(f"building {package} took more than {_BUILD_SECONDS} s", where=workspace) from error
    if done.returncode != 0:
        raise BuildError(f"{package} does not build\n{done.stderr.strip()}", where=" ".join(command))
    return directory / target / "release" / binary


def assemble(directory: Path, elf: Path, host_elf: Path, host_program: str, description: str) -> Images:
    """Joins both programs into a bootable file in `directory`, with copies of their ELF files beside it."""
    engine, host = flatten(elf, with_bss=True), flatten(host_elf, with_bss=False)
    total = len(engine) + len(host)
    engine[_IMAGE_SIZE_OFFSET : _IMAGE_SIZE_OFFSET + 8] = total.to_bytes(8, "little")
    paths = {
        "elf": directory / "bulkhead.elf",
        "image": directory / "bulkhead.img",
        "host_elf": directory / f"{host_program}.elf",
        "host_image": directory / f"{host_program}.img",
    }
    _replace(paths["elf"], elf.read_bytes())
    _replace(paths["host_elf"], host_elf.read_bytes())
    _replace(paths["host_image"], host)
    _replace(paths["image"], engine + host)
    return Images(**paths, toolchain=description, sha256=sha256_of(paths["image"]))


def _replace(path: Path, content: bytes | bytearray) -> None:
    """Write the file in one step: a machine that boots the old one meanwhile reads the old one."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.replace(path)


def flatten(elf: Path, *, with_bss: bool) -> bytearray:
    """The memory of an ELF file from its lowest address on, in whole pages. It must begin with an arm64 Image header.

    The engine runs where it is loaded, so its bss is part of the file; a host program is copied by the engine, which
    zeroes what its header asks for beyond the file. BuildError if there is no header.
    """
    program = read_program(elf)
    flat = bytearray(program.flat())
    if not with_bss:
        del flat[max(s.address - program.base + len(s.content) for s in program.segments) :]
    if flat[_MAGIC_OFFSET : _MAGIC_OFFSET + 4] != _MAGIC:
        raise BuildError("the program does not begin with an arm64 Image header", where=elf)
    flat.extend(bytes(-len(flat) % PAGE))
    return flat
