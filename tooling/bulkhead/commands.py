"""Tasks that also work where there is no checkout: those of the `bulkhead` command. Trust label: TOOL.

`tasks.py` has them too, with those that need the sources. The tasks are thin: each imports what it needs when it runs.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable
from typing import Any, overload

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.parser.argument import Argument
from invoke.tasks import Task

from bulkhead.errors import BulkheadError, InvalidInput
from bulkhead.machine.qemu import interrupt_on_termination
from bulkhead.provision.paths import runner

Body = Callable[..., int | None]
_PARTS = ("names", "kind", "default", "help", "positional", "optional", "incrementable", "attr_name")
NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of the operating system that say where nothing can be written: no defects of this program."""


class Option(Argument):
    """Invoke's argument, which says in a sentence that a word is no number."""

    def set_value(self, value: Any, cast: bool = True) -> None:
        """See Argument."""
        try:
            super().set_value(value, cast)
        except ValueError as error:
            number = "whole number" if self.kind is int else "number"
            hint = f"`{runner()} --help TASK` explains the options of a task"
            raise ended_by(InvalidInput(f"'{value}' is no {number}", where=f"--{self.names[0]}", hint=hint)) from error


class Command(Task[Any]):
    """Invoke's task with such arguments."""

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """See Task."""
        arguments = super().get_arguments(ignore_unknown_help)
        return [Option(**{part: getattr(one, part) for part in _PARTS}) for one in arguments]


@overload
def command(function: Body, /) -> Any: ...
@overload
def command(**about: str) -> Callable[[Body], Any]: ...
def command(function: Body | None = None, /, **about: str) -> Any:
    """Make a function a task: its number is the exit status, known errors end it with their message alone.

    `about`: what `--help` says of each option.
    """
    if function is None:
        return functools.partial(command, **about)

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> None:
        interrupt_on_termination()  # of a task that starts machines, and has files for them
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

    return Command(guarded, help=about)


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


GUEST = {
    "kernel": "file of an uncompressed arm64 Linux Image; without: the kernel of the pinned Debian guest",
    "initrd": "file of the initial RAM disk for --kernel",
    "firmware": "run firmware in place of a kernel: uefi, u-boot or a file",
    "payload": "file that the firmware finds in RAM",
    "disk": "file of which the guest gets a copy as its virtio disk",
    "pkvm": "the kernel shares memory with the disk by itself, as under pKVM; without --kernel: one built for it, once",
    "append": "the kernel's command line (console=ttyAMA0 quiet)",
    "memory": "RAM of the guest, as in 512M or 2G (512M)",
    "cpus": "CPUs of the guest (2)",
    "load_address": "guest physical address of a --kernel that is a flat binary",
    "cpu_model": "what QEMU emulates: neoverse-n1, neoverse-v1, neoverse-n2 or max (neoverse-n1)",
}
"""What `--help` says of the options that describe a guest."""


@command(
    **GUEST,
    host_cpus="CPUs of the machine (2)",
    timeout="seconds that the whole run may take (300 with --script; else a day)",
    json="nothing on stdout but a JSON object that says how the run went",
    verbose="show stages with their seconds, and the command that starts QEMU",
    qemu="path of a qemu-system-aarch64, in place of the one on PATH",
    script="commands for the guest's shell, after which it is shut down; without: a session at the terminal",
    toolchain="compiler of the image: pinned (the default) or system",
)
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
    pkvm: bool = False,
) -> int:
    """Boot a Linux kernel or firmware (uefi, u-boot) in an isolated VM in QEMU; by default the pinned Debian guest."""
    from bulkhead.machine import options
    from bulkhead.machine import run as machine

    return machine.main(
        options.parse_options(
            kernel=kernel, initrd=initrd, firmware=firmware, payload=payload, disk=disk, pkvm=pkvm,
            append=append, memory=memory, cpus=cpus, load_address=load_address, cpu_model=cpu_model,
            host_cpus=host_cpus, timeout=timeout, json=json, verbose=verbose, qemu=qemu, script=script,
            toolchain=toolchain,
        )
    )  # fmt: skip


@command(**GUEST, verbose="show every step: its words, the SHA-256 of its page, and the measurement behind it")
def measure(
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
    verbose: bool = False,
    pkvm: bool = False,
) -> None:
    """Print the launch measurement that a guest must have, computed from its files and options alone; as for `run`."""
    from bulkhead.machine import options
    from bulkhead.machine import run as machine

    machine.measure(
        options.parse_options(
            kernel=kernel, initrd=initrd, firmware=firmware, payload=payload, disk=disk, pkvm=pkvm,
            append=append, memory=memory, cpus=cpus, load_address=load_address, cpu_model=cpu_model,
            verbose=verbose,
        )
    )  # fmt: skip


@command(
    backend="machine: host (the engine as a library), qemu, metal or all",
    calls="so many calls or steps; without: a full run (a million on host)",
    seed="number that the choices follow from; without: a new one, which the end of the run tells",
    jobs="processes at a time, on host",
    replay="file with the steps of a failure, which are carried out in place of a run",
    thorough="compare the whole state after each step, on qemu",
    serial="line to a board, PATH[:BAUD]; qemu: a pseudo-terminal to a machine in QEMU",
    power="shell command that turns the board off and on when it has stopped answering",
)
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


@command(
    to="file or block device that is written", payload="the image with the program for tests, not the hypervisor"
)
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
