"""The Rust toolchain: the pinned reference, or the system's.

Trust label: TOOL. The pinned toolchain determines the reference image: Debian packages by hash (pins.toml), fixed flags
(flags.toml), `core` built from the source of the same packages. It needs no root and changes nothing outside the cache.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from bulkhead.errors import InvalidInput, ProvisionError
from bulkhead.provision import apt, pins
from bulkhead.provision.host import ensure_host_compiler
from bulkhead.provision.paths import REPOSITORY, cache_dir, make_once, say
from bulkhead.provision.sysroot import Source, private_sysroot

Kind = Literal["pinned", "system"]

# Variables of the user that cannot change what is built; all others of cargo and rustc are dropped.
_HARMLESS = ("CARGO_HTTP_", "CARGO_NET_", "CARGO_TERM_", "CARGO_REGISTRIES_", "CARGO_SOURCE_", "RUST_BACKTRACE",
             "RUST_LOG")  # fmt: skip


@dataclass(frozen=True)
class Toolchain:
    """A usable toolchain: programs, private sysroot and what is fixed about the build."""

    rustc: Path
    cargo: Path
    lld: Path
    sysroot: Path
    is_reference: bool
    cargo_home: Path
    library_paths: tuple[Path, ...]
    version: str
    origin: str

    def env(self) -> dict[str, str]:
        """Environment for cargo and rustc, made from this process's: host builds work, the target has its flags."""
        env = _environment(self.rustc, self.cargo_home, self.library_paths)
        target = pins.flags()["target"].upper().replace("-", "_")
        env[f"CARGO_TARGET_{target}_RUSTFLAGS"] = " ".join(self.cargo_target_flags())
        return env

    def cargo_target_flags(self) -> list[str]:
        """The rustc flags of everything built for the bare-metal target."""
        remap = pins.flags()["remap"]
        return [
            f"--sysroot={self.sysroot}",
            f"-Clinker={self.lld}",
            *pins.flags()["rustflags"],
            f"--remap-path-prefix={self.cargo_home}={remap['cargo_home']}",
            f"--remap-path-prefix={REPOSITORY}={remap['repository']}",
        ]

    def describe(self) -> str:
        """One line: version, origin, and whether images built with it can be compared with the reference."""
        role = "the reference" if self.is_reference else "not the reference: image hashes are not comparable"
        return f"{self.version.splitlines()[0]}, {self.origin} ({role})"


def ensure(kind: Kind = "pinned") -> Toolchain:
    """Provide a toolchain, downloading and building what the cache lacks. Raises BulkheadError."""
    ensure_host_compiler()
    return _pinned() if parse_kind(kind) == "pinned" else _system()


def parse_kind(text: str) -> Kind:
    """The toolchain that a user's text names. Raises InvalidInput."""
    if text == "pinned":
        return "pinned"
    if text == "system":
        return "system"
    raise InvalidInput(
        f"no toolchain is called {text!r}", where="--toolchain", hint="use `pinned` or `system`"
    )


def _environment(rustc: Path, cargo_home: Path, library_paths: tuple[Path, ...]) -> dict[str, str]:
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CARGO", "RUST")) or name.startswith(_HARMLESS)
    }
    env["PATH"] = f"{rustc.parent}:{env.get('PATH', os.defpath)}"
    env["RUSTC"] = str(rustc)
    env["CARGO_HOME"] = str(cargo_home)
    if library_paths:
        inherited = env.get("LD_LIBRARY_PATH")
        env["LD_LIBRARY_PATH"] = ":".join([*map(str, library_paths), *([inherited] if inherited else [])])
    return env


def _version(rustc: Path, env: dict[str, str]) -> str:
    result = subprocess.run(
        [str(rustc), "-vV"], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    if result.returncode != 0:
        raise ProvisionError(f"rustc does not run: {result.stderr.strip()}", where=rustc,
                             hint="remove the `toolchains` directory of the cache and run it again")  # fmt: skip
    return result.stdout


# --- pinned ---------------------------------------------------------------------------------------------------------


@cache
def _pinned() -> Toolchain:
    if platform.machine() != "x86_64":
        raise ProvisionError(
            f"the pinned toolchain runs on x86_64; this machine is {platform.machine()}",
            hint="use `--toolchain system` here; the reference image is built on x86_64",
        )
    root = make_once(pinned_root(), _unpack_pinned)
    usr = root / "usr"
    libraries = (usr / "lib" / "x86_64-linux-gnu", root / "lacking")
    rustc, cargo, home = usr / "bin" / "rustc", usr / "bin" / "cargo", cache_dir() / "cargo"
    env = _environment(rustc, home, libraries)
    version = _version(rustc, env)
    source_pin = pins.pin("rust-web-src", "toolchain", "compiler")
    source = Source(usr / "lib" / "rustlib" / "src" / "rust" / "library", source_pin.sha256, in_compiler=True)
    package = pins.pin("rustc-web", "toolchain", "compiler")
    return Toolchain(
        rustc=rustc, cargo=cargo, lld=usr / "bin" / "ld.lld-19",
        sysroot=private_sysroot(cargo, version, source, env),
        is_reference=True, cargo_home=home, library_paths=libraries, version=version,
        origin=f"Debian {package.name} {package.version}, core from source sha256 {source_pin.sha256[:16]}",
    )  # fmt: skip


def pinned_root() -> Path:
    """Where the pinned toolchain is, or will be; the name changes with any of its pins."""
    hashes = sorted(pin.sha256 for pin in pins.group("toolchain", "compiler"))
    return cache_dir() / "toolchains" / f"pinned-{hashlib.sha256(''.join(hashes).encode()).hexdigest()[:16]}"


def _unpack_pinned(into: Path) -> None:
    debs = apt.fetch(pins.group("toolchain", "compiler"))
    say("unpacking the pinned Rust toolchain")
    for deb in debs.values():
        apt.unpack(deb, into)
    source = (into / "usr" / "lib" / "rustlib" / "src" / "rust").resolve()
    for entry in source.iterdir():  # 330 MB that nothing here reads
        if entry.name != "library" and entry.is_dir():
            shutil.rmtree(entry)
    programs = [into / "usr" / "bin" / name for name in ("rustc", "cargo", "rustfmt", "clippy-driver", "ld.lld-19")]
    complete_libraries(into, programs, into / "usr" / "lib" / "x86_64-linux-gnu")


def complete_libraries(root: Path, programs: Sequence[Path], *search: Path) -> None:
    """Put the shared libraries that this machine lacks for these programs, and that `search` has not, into
    `root/lacking`.

    The system's own libraries come first where they exist: the programs that rustc starts (cc, ld) use them too.
    """
    lacking = root / "lacking"
    lacking.mkdir()
    if not _not_found(programs, lacking, search):
        return
    spare = root / "spare"
    spare.mkdir()
    for deb in apt.fetch(pins.group("toolchain", "libraries")).values():
        apt.unpack(deb, spare)
    files = {path.name: path for path in spare.rglob("*.so*")}
    while names := _not_found(programs, lacking, search):
        unknown = names - files.keys()
        if unknown:
            raise ProvisionError(
                f"shared libraries are missing: {', '.join(sorted(unknown))}", where=root,
                hint="install the packages that carry them, and run it again",
            )  # fmt: skip
        for name in names:
            shutil.copy2(files[name], lacking / name)
    shutil.rmtree(spare)


def _not_found(programs: Sequence[Path], lacking: Path, search: Sequence[Path]) -> set[str]:
    """Names of the libraries that the unpacked programs still cannot load."""
    env = dict(os.environ, LD_LIBRARY_PATH=":".join(map(str, [*search, lacking])), LC_ALL="C")
    listing = subprocess.run(
        ["ldd", *programs, *lacking.iterdir()], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    return {line.split()[0] for line in listing.stdout.splitlines() if "not found" in line and "=>" in line}


# --- system ---------------------------------------------------------------------------------------------------------


@cache
def _system() -> Toolchain:
    found = shutil.which("rustc")
    if found is None:
        raise ProvisionError(
            "no rustc on PATH", hint="use the pinned toolchain, which needs nothing installed"
        )
    printed = subprocess.run(
        [found, "--print", "sysroot"], capture_output=True, text=True, timeout=120, check=False
    )
    home = Path(printed.stdout.strip())
    rustc = home / "bin" / "rustc" if (home / "bin" / "rustc").is_file() else Path(found)
    beside = rustc.parent / "cargo"
    cargo = beside if beside.is_file() else Path(shutil.which("cargo") or "cargo")
    cargo_home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    env = _environment(rustc, cargo_home, ())
    version = _version(rustc, env)
    sysroot, origin = _system_sysroot(home, cargo, version, env)
    return Toolchain(
        rustc=rustc, cargo=cargo, lld=_system_lld(home, version), sysroot=sysroot, is_reference=False,
        cargo_home=cargo_home, library_paths=(), version=version, origin=f"{rustc}, {origin}",
    )  # fmt: skip


def _field(version: str, name: str) -> str:
    return next((line.split(": ", 1)[1] for line in version.splitlines() if line.startswith(f"{name}: ")), "")


def _system_lld(home: Path, version: str) -> Path:
    bundled = home / "lib" / "rustlib" / _field(version, "host") / "bin" / "rust-lld"
    if bundled.is_file():
        return bundled
    for name in ("ld.lld", *(f"ld.lld-{number}" for number in range(22, 15, -1))):
        if path := shutil.which(name):
            return Path(path)
    raise ProvisionError(
        "no lld for the system's rustc", hint="install the package `lld`, or use the pinned toolchain"
    )


def _system_sysroot(home: Path, cargo: Path, version: str, env: dict[str, str]) -> tuple[Path, str]:
    """The first that works: the target as installed, rustc's own source, Debian's of the same version, rustup."""
    triple = pins.flags()["target"]
    if any((home / "lib" / "rustlib" / triple / "lib").glob("libcore-*.rlib")):
        return home, "its own installed target"
    own = home / "lib" / "rustlib" / "src" / "rust" / "library"
    if (own / "core").is_dir():
        return private_sysroot(
            cargo, version, Source(own, _field(version, "commit-hash"), True), env
        ), "its own rust-src"
    number = _field(version, "release")
    for pin in pins.group("toolchain", "sources"):
        if pin.version.startswith(f"{number}+"):
            source = Source(_debian_library(pin, number), pin.sha256, in_compiler=False)
            return private_sysroot(
                cargo, version, source, env
            ), f"core from Debian's {pin.name} {pin.version}"
    if shutil.which("rustup"):
        say(f"rustup target add {triple}")
        added = subprocess.run(["rustup", "target", "add", triple], timeout=900, check=False)
        if added.returncode == 0:
            return home, "target added by rustup"
    raise ProvisionError(
        f"there is no core for {triple} that fits rustc {number}",
        hint=f"`rustup target add {triple}`, or `rustup component add rust-src`, or use the pinned toolchain",
    )


def _debian_library(pin: pins.Pin, number: str) -> Path:
    root = make_once(
        cache_dir() / "toolchains" / f"source-{pin.sha256[:16]}",
        lambda into: apt.unpack(apt.fetch([pin])[pin.name], into),
    )
    return root / "usr" / "src" / f"rustc-{number}" / "library"
