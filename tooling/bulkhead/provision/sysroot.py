"""A private sysroot for the bare-metal target: `core`, `alloc` and `compiler_builtins` built from recorded source.

Trust label: TOOL; its inputs (compiler, source, flags) are pinned. The build follows cargo's `-Z build-std`, which a
stable compiler accepts under RUSTC_BOOTSTRAP=1; that variable is set for this build alone. The result depends only on
the hash in its name, is made in a temporary directory and renamed.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bulkhead.errors import BuildError
from bulkhead.provision.paths import cache_dir, make_once, say
from bulkhead.provision.pins import flags

BUILD_SECONDS = 900
_STUB = (
    '[package]\nname = "stub"\nversion = "0.0.0"\nedition = "2021"\n[lib]\npath = "stub.rs"\n[workspace]\n'
)
_RECIPE = 2  # counts changes to this file which change the result for the same inputs


@dataclass(frozen=True)
class Source:
    """Rust's `library/` directory; `identity` is the hash that its content is known by.

    `in_compiler` says that it lies where the compiler itself looks (`lib/rustlib/src` of its sysroot). Only then does
    cargo name the crates by paths relative to the compiler, and the result is the same in every directory.
    """

    library: Path
    identity: str
    in_compiler: bool


def private_sysroot(cargo: Path, version: str, source: Source, env: Mapping[str, str]) -> Path:
    """The sysroot for the engine's target, built if the cache does not have it yet.

    `version` is the whole text of `rustc -vV`, `env` the toolchain's environment including RUSTC and CARGO_HOME.
    Raises BuildError.
    """
    inputs = json.dumps(
        [version, source.identity, _RECIPE, flags()["target"], flags()["sysroot"], flags()["remap"]]
    )
    key = hashlib.sha256(inputs.encode()).hexdigest()[:16]
    target = cache_dir() / "sysroots" / key
    return make_once(target, lambda temporary: _build(temporary, cargo, source, env))


def _build(into: Path, cargo: Path, source: Source, env: Mapping[str, str]) -> None:
    triple, recipe = flags()["target"], flags()["sysroot"]
    say(f"building core and alloc for {triple} from {source.library} (once, about half a minute)")
    work = into / "work"
    work.mkdir()
    (work / "Cargo.toml").write_text(_STUB)
    (work / "stub.rs").write_text("#![no_std]\n")
    remap = flags()["remap"]
    rustflags = [
        *recipe["rustflags"],
        f"--remap-path-prefix={env['CARGO_HOME']}={remap['cargo_home']}",
        f"--remap-path-prefix={source.library}={remap['library']}",
        f"--remap-path-prefix={source.library.resolve()}={remap['library']}",
        f"--remap-path-prefix={work}=/sysroot",
    ]
    command = [str(cargo), "build", "--release", "-j2", "--target", triple, *_vendored(source.library),
               "-Z", f"build-std={recipe['crates']}", "-Z", f"build-std-features={recipe['features']}"]  # fmt: skip
    extra = {
        "RUSTC_BOOTSTRAP": "1",
        "RUSTFLAGS": " ".join(rustflags),
        "CARGO_TARGET_DIR": str(work / "target"),
    }
    if not source.in_compiler:
        extra["__CARGO_TESTS_ONLY_SRC_ROOT"] = str(source.library)
    result = subprocess.run(
        command,
        cwd=work,
        env={**env, **extra},
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS,
        check=False,
    )
    if result.returncode != 0:
        raise BuildError(
            f"core could not be built for {triple}:\n{result.stderr[-1500:]}",
            where=shlex.join(command),
            hint="if cargo could not reach its registry: check the network, CARGO_HTTP_PROXY and CARGO_HTTP_CAINFO",
        )
    libraries = into / "lib" / "rustlib" / triple / "lib"
    libraries.mkdir(parents=True)
    for rlib in (work / "target" / triple / "release" / "deps").glob("lib*.rlib"):
        if not rlib.name.startswith("libstub-"):
            shutil.copy2(rlib, libraries)
    shutil.rmtree(work)


def _vendored(library: Path) -> list[str]:
    """Cargo options that take the standard library's own dependencies from the source package, if it has them."""
    vendor = library / "vendor"
    if not vendor.is_dir():
        return []
    return ["--config", 'source.crates-io.replace-with="stdvendor"',
            "--config", f'source.stdvendor.directory="{vendor}"']  # fmt: skip
