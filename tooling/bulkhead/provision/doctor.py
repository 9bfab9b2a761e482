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
from rich.table import Table

from bulkhead.errors import BulkheadError
from bulkhead.provision import apt, host, pins, qemu, sources, toolchain
from bulkhead.provision.paths import REPOSITORY, cache_dir

FREE_BYTES = 4 << 30


@dataclass(frozen=True)
class Finding:
    """One line of the report; `fine` is None where a missing thing is provided when it is needed."""

    subject: str
    state: str
    fine: bool | None


def main() -> None:
    """Print the report; changes nothing."""
    table = Table("", "what", "state", box=None)
    for finding in findings():
        mark = {True: "[green]ok[/]", False: "[red]missing[/]", None: "[yellow]later[/]"}[finding.fine]
        table.add_row(mark, finding.subject, finding.state)
    Console().print(table)


def findings() -> list[Finding]:
    """The state of everything that the tasks use."""
    return [
        _guarded("machine", lambda: (f"{platform.machine()}, {apt.release() or platform.system()}, "
                                     f"{os.cpu_count()} CPUs", platform.machine() == "x86_64")),
        _guarded("python", lambda: (sys.version.split()[0], sys.version_info >= (3, 11))),
        _guarded("cache", _cache),
        _guarded("rights", lambda: ("root" if apt.privilege() == [] else "sudo", True) if apt.privilege() is not None
                 else ("no root: system packages cannot be installed from here", None)),
        _guarded("Debian mirror", lambda: (sources.archive().uri, True)),
        _guarded("C compiler", lambda: ("works", True) if not host.missing_packages()
                 else (f"will be installed: {' '.join(host.missing_packages())}", None)),
        _guarded("toolchain", _toolchain),
        _guarded("QEMU", lambda: _program(qemu.PROGRAM)),
        _guarded("gdb", lambda: _program(pins.setting("gdb", "package"))),
        _guarded("repository", lambda: (str(REPOSITORY), True)),
    ]  # fmt: skip


def _guarded(subject: str, look: Callable[[], tuple[str, bool | None]]) -> Finding:
    try:
        return Finding(subject, *look())
    except BulkheadError as error:
        return Finding(subject, str(error), False)


def _cache() -> tuple[str, bool | None]:
    free = shutil.disk_usage(cache_dir()).free
    return f"{cache_dir()}, {free / 1e9:.0f} GB free", free >= FREE_BYTES


def _toolchain() -> tuple[str, bool | None]:
    if toolchain.pinned_root().is_dir():
        return str(toolchain.pinned_root()), True
    return "will be downloaded", None


def _program(name: str) -> tuple[str, bool | None]:
    found = shutil.which(name)
    if found is None:
        return "will be installed", None
    if name == qemu.PROGRAM:
        have = qemu.version(Path(found))
        return f"{found}, version {have[0]}.{have[1]}", True if have >= qemu.minimum() else None
    return found, True
