"""QEMU and gdb: the installed ones if they are new enough, else the distribution's. Trust label: TOOL.

QEMU before 10 has no stage 2 in its SMMUv3 model (`hw/arm/smmuv3`), so an engine tested on it would test less than it
says; older versions are refused.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from bulkhead.errors import InvalidInput, ProvisionError
from bulkhead.provision import apt, pins
from bulkhead.provision.paths import in_checkout

PROGRAM = "qemu-system-aarch64"


def ensure(path: str | Path | None = None) -> Path:
    """The QEMU to use: `path` if given, else the one on PATH, else installed from the distribution (needs root, and a
    checkout: an installed package leaves the system as it is).

    Raises InvalidInput if the given one is unusable, ProvisionError if none can be provided.
    """
    if path is not None:
        return _explicit(Path(path))
    return _found_or_installed()


def minimum() -> tuple[int, int]:
    """The oldest QEMU version that is accepted, as (major, minor)."""
    major, minor = pins.setting("qemu", "minimum")
    return int(major), int(minor)


def version(program: Path) -> tuple[int, int]:
    """The version of a QEMU program as (major, minor). Raises ProvisionError if it does not say one."""
    try:
        result = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=60, check=False
        )
    except OSError as error:
        raise ProvisionError(f"QEMU cannot be started: {error.strerror}", where=program,
                             hint=f"give --qemu the path of a {PROGRAM} program") from error  # fmt: skip
    match = re.search(r"version (\d+)\.(\d+)", result.stdout)
    if match is None:
        raise ProvisionError("this program does not report a QEMU version", where=program,
                             hint=f"give --qemu the path of a {PROGRAM} program")  # fmt: skip
    return int(match[1]), int(match[2])


def _explicit(program: Path) -> Path:
    found = shutil.which(str(program))
    if found is None:
        raise InvalidInput(
            "there is no such program", where=program, hint=f"give --qemu the path of {PROGRAM}"
        )
    have = version(Path(found))
    if have < minimum():
        newer = "to have a newer one installed" if in_checkout() else f"and install a newer one, {by_hand()}"
        raise InvalidInput(_too_old(have), where=found, hint=f"leave --qemu away {newer}")
    return Path(found).absolute()


def _too_old(have: tuple[int, int]) -> str:
    return f"QEMU {have[0]}.{have[1]} is too old: {minimum()[0]}.{minimum()[1]} is needed (SMMUv3 stage 2)"


def by_hand() -> str:
    """How somebody installs a QEMU that is new enough."""
    return f"as root: {apt.by_hand([pins.setting('qemu', 'package')], _suite())}"


def _suite() -> str | None:
    """The suite to install from on this machine, None for the release's own."""
    suite = pins.setting("qemu", "suites").get(apt.release())
    return None if suite is None else str(suite)


@cache
def _found_or_installed() -> Path:
    found = shutil.which(PROGRAM)
    why = f"{PROGRAM} is missing" if found is None else ""
    if found is not None:
        have = version(Path(found))
        if have >= minimum():
            return Path(found)
        why = _too_old(have)
    apt.install([pins.setting("qemu", "package")], why, _suite())
    found = shutil.which(PROGRAM)
    if found is None or version(Path(found)) < minimum():
        raise ProvisionError(
            f"after the installation there is still no {PROGRAM} of version {minimum()[0]} or newer",
            where=found, hint="install QEMU by hand and give its path with --qemu",
        )  # fmt: skip
    return Path(found)


@cache
def ensure_gdb() -> Path:
    """A gdb that knows AArch64, installed if missing (needs root). Raises ProvisionError."""
    package = pins.setting("gdb", "package")
    if shutil.which(package) is None:
        # From the same suite as QEMU, whose installation may have moved shared libraries there (libelf1).
        apt.install([package], "the debugger for AArch64 is missing", _suite())
    found = shutil.which(package)
    if found is None:
        raise ProvisionError(f"{package} is not on PATH after its installation", hint="install it by hand")
    return Path(found)
