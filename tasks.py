"""The project's tasks: `python3 tasks.py NAME [options]` on a fresh machine, `inv NAME [options]` in its environment.

Trust label: TOOL. Called as a program, this file first provides the Python environment that invoke needs; the tasks
themselves are thin, the logic is in tooling/bulkhead. `python3 tasks.py --list` shows all, `NAME --help` one.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "tooling"))

if __name__ == "__main__":
    if sys.version_info < (3, 11):
        sys.exit("bulkhead: Python 3.11 or newer is needed; this is " + sys.version.split()[0])
    from bulkhead.provision import bootstrap

    bootstrap.main(sys.argv[1:])

import functools
from collections.abc import Callable
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from bulkhead.errors import BulkheadError, InvalidInput


def command(function: Callable[..., int | None]) -> Any:
    """Make a function a task: its number is the exit status, known errors end it with their message alone."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            status = function(*args, **kwargs)
        except BulkheadError as error:
            raise Exit(f"bulkhead: {error}", code=2 if isinstance(error, InvalidInput) else 1) from error
        except KeyboardInterrupt:
            raise Exit("bulkhead: interrupted", code=130) from None
        if status:
            raise Exit(code=status)

    return task(guarded)


@command
def setup(_: Context) -> None:
    """Provide everything: toolchain, QEMU, gdb, guest, host build. Later tasks provide what they need by themselves."""
    from bulkhead.provision import checks

    checks.setup()


@command
def build(_: Context, toolchain: str = "pinned") -> None:
    """Build the bootable image; `--toolchain system` uses the machine's own rustc (not the reference image)."""
    from bulkhead.image import build as image
    from bulkhead.provision.toolchain import parse_kind

    image.build(toolchain=parse_kind(toolchain))


@command
def run(
    _: Context,
    kernel: str = "",
    initrd: str = "",
    firmware: str = "",
    payload: str = "",
    disk: str = "",
    append: str = "",
    memory: str = "512M",
    cpus: str = "2",
    load_address: str = "",
    cpu_model: str = "neoverse-n1",
    host_cpus: str = "2",
    timeout: str = "",
    json: bool = False,
    verbose: bool = False,
    qemu: str = "",
    script: str | None = None,
    toolchain: str = "",
) -> int:
    """Boot a Linux kernel or firmware (uefi, u-boot) in an isolated VM in QEMU; by default the pinned Debian guest."""
    from bulkhead.machine import options
    from bulkhead.machine import run as machine

    status = machine.main(
        options.parse_options(
            kernel=kernel, initrd=initrd, firmware=firmware, payload=payload, disk=disk, append=append,
            memory=memory, cpus=cpus, load_address=load_address, cpu_model=cpu_model, host_cpus=host_cpus,
            timeout=timeout, json=json, verbose=verbose, qemu=qemu, script=script, toolchain=toolchain,
        )
    )  # fmt: skip
    raise Exit(code=status)


@command
def test(_: Context, fast: bool = False, backend: str = "") -> None:
    """Lint, build for this machine, and run all tests; `--fast` leaves out those that boot or take long."""
    from bulkhead.provision import checks

    checks.test(fast=fast, backend=backend)


@command
def attack(_: Context, name: str = "", self_check: bool = False, list: bool = False) -> None:
    """Carry out all attacks in QEMU, or `--name` (names, subjects); `--self-check`: with the protection removed."""
    from bulkhead.attack import cli

    cli.main(name, self_check=self_check, listing=list)


@command
def soak(_: Context, minutes: int = 10, seed: int = 0, storms: int = 200) -> None:
    """Storms on the booted engine (goes on where it was interrupted), then random calls against the specification."""
    from bulkhead.conformance import soak as conformance
    from bulkhead.provision import checks

    if storms:
        checks.storms(storms)
    if minutes:
        conformance.main(minutes=minutes, seed=seed)


@command
def lint(_: Context) -> None:
    """Check form and types: ruff, mypy --strict, rustfmt, clippy."""
    from bulkhead.provision import checks

    checks.lint()


@command
def layout(_: Context) -> None:
    """Show the layout of the image in memory, and refuse a wrong one."""
    from bulkhead.image import layout as image

    image.main()


@command
def debug(_: Context, vmlinux: str = "") -> None:
    """Start the machine halted, with gdb and the symbols of engine and hypervisor (and a guest's vmlinux) loaded."""
    from bulkhead.machine import debug as machine

    raise Exit(code=machine.main(vmlinux))


@command
def flash(_: Context, to: str, payload: bool = False) -> None:
    """Write the image to a file or block device, and read it back; `--payload`: the one for tests on a board."""
    from bulkhead.image import flash as image

    image.main(to, payload)


@command
def prove(_: Context) -> None:
    """Prove the machine code of the calls against the specification."""
    from bulkhead.prove import cli

    cli.main()


@command
def clean(_: Context, cache: bool = False) -> None:
    """Remove what was built; with `--cache` also the downloads and toolchains of this user."""
    from bulkhead.provision import checks

    checks.clean(cache=cache)


@command
def doctor(_: Context) -> None:
    """Say what is there, which versions, and what is missing, without changing anything."""
    from bulkhead.provision import doctor as report

    report.main()
