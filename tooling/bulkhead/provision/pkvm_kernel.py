"""A guest kernel that shares memory by KVM's calls itself: Debian's source of Linux as it is, built with the two
options that Debian's own kernels have off.

Trust label: TOOL. Source, compiler and make are pinned packages (pins.toml) that are unpacked into the cache, used
there and removed: nothing is installed, only the kernel stays. Its configuration is `allnoconfig` and pkvm.config.
Sources: Linux Documentation/kbuild/kconfig.rst (KCONFIG_ALLCONFIG), kbuild.rst (CROSS_COMPILE),
reproducible-builds.rst.
"""

from __future__ import annotations

import contextlib
import hashlib
import lzma
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from bulkhead.errors import BuildError, ProvisionError
from bulkhead.provision import apt, pins, toolchain
from bulkhead.provision.host import ensure_host_compiler
from bulkhead.provision.kernel_image import check_kernel
from bulkhead.provision.paths import cache_dir, make_once, say

UNPACK_SECONDS = 900
BUILD_SECONDS = 3600
CONFIG = Path(__file__).with_name("pkvm.config")
_JOBS = min(os.cpu_count() or 1, 4)
_PREFIX = "aarch64-linux-gnu-"
_COMPILER = "gcc-12"  # the package of the compiler has no name without its release
_SOURCE = Path("usr/src/linux-source-6.12.tar.xz")
_UNUSED = "*/drivers/gpu/drm/amd/include"  # a quarter of the source
_RECIPE = 1  # counts changes to this file which change the result for the same inputs


def ensure() -> Path:
    """The kernel, an arm64 `Image`; built if the cache lacks it, which takes minutes and 2 GB meanwhile.

    Raises ProvisionError or BuildError.
    """
    return check_kernel(make_once(_place(), _make) / "Image")


def is_there() -> bool:
    """Whether the cache has it."""
    return _place().is_dir()


def _place() -> Path:
    packages = (*pins.group("pkvm", "source"), *pins.group("pkvm", "tools"))
    inputs = [*(pin.sha256 for pin in packages), hashlib.sha256(CONFIG.read_bytes()).hexdigest(), str(_RECIPE)]
    return cache_dir() / "guests" / hashlib.sha256("".join(inputs).encode()).hexdigest()[:16]


def _make(into: Path) -> None:
    if platform.machine() != "x86_64":
        raise ProvisionError(
            f"the compiler of the guest kernel runs on x86_64; this machine is {platform.machine()}",
            hint="build one with the options of pkvm.config, and give it as --kernel beside --pkvm",
        )
    ensure_host_compiler()
    say("building a guest kernel from Debian's source (once, some minutes)")
    tools, work = into / "tools", into / "work"
    env = _tools(tools)
    source = _source(work)
    build = work / "build"
    build.mkdir()
    make = ["make", "-s", f"-j{_JOBS}", "-C", str(source), f"O={build}"]
    _run([*make, "allnoconfig"], env, UNPACK_SECONDS)
    _check_configuration(build / ".config")
    _run([*make, "Image"], env, BUILD_SECONDS)
    (build / "arch/arm64/boot/Image").rename(into / "Image")
    (build / ".config").rename(into / "config")
    shutil.rmtree(tools)
    shutil.rmtree(work)


def _tools(root: Path) -> dict[str, str]:
    """Unpack the compiler and what Linux' build calls; the environment in which it finds them."""
    root.mkdir()
    for deb in apt.fetch(pins.group("pkvm", "tools")).values():
        apt.unpack(deb, root)
    programs, libraries = root / "usr/bin", root / "usr/lib/x86_64-linux-gnu"
    (programs / f"{_PREFIX}gcc").symlink_to(f"{_PREFIX}{_COMPILER}")
    compilers = list(root.glob("usr/lib/gcc-cross/aarch64-linux-gnu/*/cc1"))
    used = [programs / name for name in (f"{_PREFIX}as", f"{_PREFIX}ld", "bison", "flex", "m4", "bc", "make")]
    toolchain.complete_libraries(root, [*used, *compilers], libraries)
    return {
        "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
        "LD_LIBRARY_PATH": f"{libraries}:{root / 'lacking'}",
        "BISON_PKGDATADIR": str(root / "usr/share/bison"),
        "M4": str(programs / "m4"),
        "LC_ALL": "C",
        "ARCH": "arm64",
        "CROSS_COMPILE": _PREFIX,
        "KCONFIG_ALLCONFIG": str(CONFIG),
        "KBUILD_BUILD_TIMESTAMP": "1970-01-01",
        "KBUILD_BUILD_USER": "bulkhead",
        "KBUILD_BUILD_HOST": "bulkhead",
    }


def _source(work: Path) -> Path:
    """Unpack Linux below `work`; its directory."""
    work.mkdir()
    [deb] = apt.fetch(pins.group("pkvm", "source")).values()
    apt.unpack(deb, work)
    command = ["tar", "-x", "-C", str(work), f"--exclude={_UNUSED}"]
    with lzma.open(work / _SOURCE) as archive, subprocess.Popen(command, stdin=subprocess.PIPE) as tar:
        assert tar.stdin is not None
        with contextlib.suppress(BrokenPipeError), tar.stdin:  # if it breaks, tar says why
            shutil.copyfileobj(archive, tar.stdin, 1 << 20)
        if tar.wait(UNPACK_SECONDS) != 0:
            raise ProvisionError(
                "the source of Linux cannot be unpacked", where=shlex.join(command),
                hint="check the free space in the cache, and run it again",
            )  # fmt: skip
    (work / _SOURCE).unlink()
    return work / _SOURCE.name.removesuffix(".tar.xz")


def _run(command: list[str], env: Mapping[str, str], seconds: int) -> None:
    try:
        result = subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=seconds, stdin=subprocess.DEVNULL, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BuildError(
            f"no end after {seconds} s", where=shlex.join(command), hint="run it where more CPUs are idle"
        ) from error
    if result.returncode != 0:
        raise BuildError(
            f"the guest kernel could not be built:\n{result.stderr[-1500:]}", where=shlex.join(command),
            hint="check the free space in the cache, and run it again",
        )  # fmt: skip


def _check_configuration(result: Path) -> None:
    """Kconfig drops silently what depends on something that is off."""
    wanted = [line for line in CONFIG.read_text().splitlines() if line.startswith("CONFIG_")]
    lost = set(wanted) - set(result.read_text().splitlines())
    if lost:
        raise BuildError(
            f"Linux does not take {', '.join(sorted(lost))}", where=CONFIG, hint="add what these options depend on"
        )
