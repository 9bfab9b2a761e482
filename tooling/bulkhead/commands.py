"""Tasks that also work where there is no checkout: those of the `bulkhead` command. Trust label: TOOL.

`tasks.py` has them too, with those that need the sources. The tasks are thin: each imports what it needs when it runs.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task

from bulkhead.errors import BulkheadError, InvalidInput

NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of the operating system that say where nothing can be written: no defects of this program."""


def command(function: Callable[..., int | None]) -> Any:
    """Make a function a task: its number is the exit status, known errors end it with their message alone."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        try:
            status = function(*args, **kwargs)
        except BulkheadError as error:
            raise ended_by(error) from error
        except OSError as error:
            if error.errno not in NO_PLACE:
                raise
            raise ended_by(no_place(error)) from error
        except KeyboardInterrupt:
            raise Exit("bulkhead: interrupted", code=130) from None
        if status:
            raise Exit(code=status)

    return task(guarded)


def ended_by(error: BulkheadError) -> Exit:
    """The end of a program by a known error: its message, and 2 as the status if the user's input was wrong."""
    return Exit(f"bulkhead: {error}", code=2 if isinstance(error, InvalidInput) else 1)


def no_place(error: OSError) -> BulkheadError:
    """A full disk, or a directory that this user may not write to, in the words of this project."""
    return BulkheadError(
        f"a file cannot be written or opened: {error.strerror}", where=error.filename,
        hint="make room, or let this user write there; BULKHEAD_CACHE and BULKHEAD_RESULTS name other directories",
    )  # fmt: skip


def at_least(least: float, **options: float) -> None:
    """Raises InvalidInput for the first option whose number is below `least`."""
    for name, value in options.items():
        if not value >= least:  # not `<`: that would let NaN pass
            raise InvalidInput(
                f"{value:g} is too small", where=f"--{name}", hint=f"the least that makes sense is {least:g}"
            )


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

    return machine.main(
        options.parse_options(
            kernel=kernel, initrd=initrd, firmware=firmware, payload=payload, disk=disk, append=append,
            memory=memory, cpus=cpus, load_address=load_address, cpu_model=cpu_model, host_cpus=host_cpus,
            timeout=timeout, json=json, verbose=verbose, qemu=qemu, script=script, toolchain=toolchain,
        )
    )  # fmt: skip


@command
def conform(
    _: Context,
    backend: str = "host",
    calls: int = 0,
    seed: int = 0,
    jobs: int = 2,
    replay: str = "",
    thorough: bool = False,
    serial: str = "qemu",
    power: str = "",
) -> None:
    """Steps that the specification judges, on host, qemu, metal (`--serial PATH[:baud]`; else in QEMU, too) or all;
    `--replay FILE` repeats what once failed.
    """
    at_least(0, calls=calls)
    at_least(1, jobs=jobs)
    if (serial != "qemu" or power) and backend not in ("metal", "all"):
        raise InvalidInput(
            "--serial and --power are for --backend metal or all", where=f"--backend {backend}",
            hint="add --backend metal, or leave them away",
        )  # fmt: skip
    from bulkhead.conformance.sequences import conform as conformance

    conformance.main(backend, calls, seed, jobs, replay, thorough=thorough, serial=serial, power=power)


@command
def flash(_: Context, to: str, payload: bool = False) -> None:
    """Write the image to a file or block device, and read it back; `--payload`: the one for tests on a board."""
    from bulkhead.image import flash as image

    image.main(to, payload)


@command
def report(_: Context) -> None:
    """Show what was tested, how much of it and what failed, as a table and as a page; says what is missing."""
    from bulkhead.report import cli

    cli.main()


@command
def doctor(_: Context) -> int:
    """Say what is there, which versions, and what is missing, without changing anything."""
    from bulkhead.provision import doctor as findings

    return findings.main()
