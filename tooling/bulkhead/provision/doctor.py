"""The task doctor: what is there, what is missing, and what would be done about it. Trust label: TOOL."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Column, Table

from bulkhead import abi, shipped
from bulkhead.abi import PACKAGE
from bulkhead.conformance.backends import native
from bulkhead.errors import BulkheadError
from bulkhead.provision import apt, guests, host, pins, pkvm_kernel, qemu, sources, toolchain
from bulkhead.provision.paths import REPOSITORY, cache_dir, in_checkout
from bulkhead.report.results import engine_hash

FREE_BYTES = 4 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fine` is None where a missing thing is provided when it is needed."""

    subject: str
    state: str
    fine: bool | None


def main() -> int:
    """Print the report; changes nothing. The exit status: 1 if something is missing that nobody will provide."""
    found = findings()
    table = Table("", "what", Column("state", overflow="fold"), box=None)
    for finding in found:
        mark = {True: "[green]ok[/]", False: "[red]missing[/]", None: "[yellow]later[/]"}[finding.fine]
        table.add_row(mark, finding.subject, finding.state)
    Console().print(table)
    return 1 if any(finding.fine is False for finding in found) else 0


def findings() -> list[Finding]:
    """The state of everything that the tasks use, in a checkout or in an installed package."""
    return [
        _guarded("bulkhead", lambda: (f"{abi.release()}, {PACKAGE}", True)),
        *_common(),
        *(_of_checkout() if in_checkout() else _of_package()),
    ]


def _of_checkout() -> list[Finding]:
    return [
        _guarded("C compiler", lambda: ("works", True) if not host.missing_packages()
                 else (f"will be installed: {' '.join(host.missing_packages())}", None)),
        _guarded("toolchain", _toolchain),
        _guarded("gdb", _gdb),
        _guarded("repository", lambda: (str(REPOSITORY), True)),
    ]  # fmt: skip


def _of_package() -> list[Finding]:
    return [
        _guarded("images", _images),
        _guarded("engine", lambda: (f"ELF file with SHA-256 {engine_hash()}", True)),
        _guarded("built by", lambda: (str(shipped.manifest()["toolchain"]), True)),
        _guarded(
            "host library", lambda: (f"{native.library().name} with SHA-256 {engine_hash(native=True)}", True)
        ),
    ]


def _common() -> list[Finding]:
    return [
        _guarded("machine", lambda: (f"{platform.machine()}, {apt.release() or platform.system()}, "
                                     f"{os.cpu_count()} CPUs", platform.machine() == "x86_64")),
        _guarded("python", lambda: (sys.version.split()[0], sys.version_info >= (3, 11))),
        _guarded("cache", _cache),
        _guarded("rights", lambda: ("root" if apt.privilege() == [] else "sudo", True) if apt.privilege() is not None
                 else ("no root: system packages cannot be installed from here", None)),
        _guarded("Debian mirror", lambda: (sources.archive().uri, True)),
        _guarded("QEMU", _qemu),
        _guarded("stock guest", lambda: ("in the cache", True) if guests.is_there() else ("will be downloaded", None)),
        _guarded("pKVM guest", lambda: ("in the cache", True) if pkvm_kernel.is_there() else ("will be built", None)),
    ]  # fmt: skip


def _guarded(subject: str, look: Callable[[], tuple[str, bool | None]]) -> Finding:
    try:
        return Finding(subject, *look())
    except BulkheadError as error:
        return Finding(subject, str(error), False)


def _cache() -> tuple[str, bool | None]:
    free = shutil.disk_usage(cache_dir()).free
    return f"{cache_dir()}, {free / 1e9:.0f} GB free", free >= FREE_BYTES


def _images() -> tuple[str, bool | None]:
    damaged = shipped.damaged()
    if damaged:
        return f"damaged: {', '.join(path.name for path in damaged)}; install the wheel again", False
    return f"{', '.join(shipped.manifest()['images'])}; all files have their hashes", True


def _toolchain() -> tuple[str, bool | None]:
    if toolchain.pinned_root().is_dir():
        return str(toolchain.pinned_root()), True
    return "will be downloaded", None


def _qemu() -> tuple[str, bool | None]:
    found = shutil.which(qemu.PROGRAM)
    have = qemu.version(Path(found)) if found else (0, 0)
    state = f"{found}, version {have[0]}.{have[1]}" if found else f"no {qemu.PROGRAM}"
    if have >= qemu.minimum():
        return state, True
    if not in_checkout():
        return f"{state}; {qemu.minimum()[0]}.{qemu.minimum()[1]} is needed; {qemu.by_hand()}", False
    return f"{state}; a newer one will be installed" if found else "will be installed", None


def _gdb() -> tuple[str, bool | None]:
    found = shutil.which(pins.setting("gdb", "package"))
    return (found, True) if found else ("will be installed", None)
