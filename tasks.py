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

from invoke.context import Context
from invoke.exceptions import Exit

from bulkhead.commands import at_least, command, conform, doctor, flash, measure, report, run

__all__ = ["conform", "doctor", "flash", "measure", "report", "run"]  # tasks that need no checkout


@command
def setup(_: Context) -> None:
    """Provide everything: toolchain, QEMU, gdb, guest, host build. Later tasks provide what they need by themselves."""
    from bulkhead.provision import checks

    checks.setup()


@command(
    toolchain="compiler: pinned (the default) or system",
    self_test="the image checks its ownership transitions before the host starts",
)
def build(_: Context, toolchain: str = "pinned", self_test: bool = False) -> None:
    """Build the bootable image; `--toolchain system` uses the machine's own rustc (not the reference image).

    `--self-test`: one that walks through the ownership transitions before the host starts, in a directory of its own.
    """
    from bulkhead.image import build as image
    from bulkhead.provision.toolchain import parse_kind

    images = image.build(toolchain=parse_kind(toolchain), features=("self-test",) if self_test else ())
    print(images.image)


@command(
    fast="only what neither boots nor takes long",
    backend="host, qemu, metal or all; without: all, with --fast host",
)
def test(_: Context, fast: bool = False, backend: str = "") -> None:
    """Lint, build for this machine, and run all tests; `--fast` leaves out those that boot or take long."""
    from bulkhead.provision import checks

    checks.test(fast=fast, backend=backend)


@command(
    name="attacks or subjects, separated by commas; without: all",
    self_check="on engines without the protection that each attack names, where it must succeed",
    list="only name them",
)
def attack(_: Context, name: str = "", self_check: bool = False, list: bool = False) -> None:
    """Carry out all attacks in QEMU, or `--name` (names, subjects); `--self-check`: with the protection removed."""
    from bulkhead.attack import cli

    cli.main(name, self_check=self_check, listing=list)


@command(
    name="defects or families, separated by commas; without: all",
    list="only name them",
    jobs="engines at a time",
    record="keep the result of a full run in ci/baselines, as the claim that tests check",
)
def defects(_: Context, name: str = "", list: bool = False, jobs: int = 2, record: bool = False) -> None:
    """Seed engines with one defect each (`--name`: names, families), and find it; `--record` keeps a full run."""
    at_least(1, jobs=jobs)
    from bulkhead.defects import cli

    cli.main(name, listing=list, jobs=jobs, record=record)


@command(
    count="so many histories; 5000 are a full run",
    seed="number that the choices follow from; without: a new one, which the end of the run tells",
    replay="file with the program of a history, which is carried out again and again in place of a run",
)
def histories(_: Context, count: int = 500, seed: int = 0, replay: str = "") -> None:
    """Calls of several CPUs at once in QEMU: each history must have an explanation; `--replay FILE` repeats one."""
    from bulkhead.conformance.histories import cli

    cli.main(count, seed, replay)


@command(
    calls="on the host backend, compared with the specification",
    seed="number that the choices of calls, histories and steps follow from",
    storms="lifecycle storms from four CPUs at once, in QEMU; if any, also sixteen busy VMs on all models",
    histories="histories of several CPUs at once, in QEMU",
    booted="steps on the booted engine in QEMU, compared with the specification",
)
def soak(
    _: Context,
    calls: int = 1_000_000,
    seed: int = 0,
    storms: int = 200,
    histories: int = 5000,
    booted: int = 20_000,
) -> None:
    """Storms, histories and `booted` specified steps on the booted engine, then calls on the host backend; storms and
    calls go on where they were interrupted."""
    at_least(0, calls=calls, storms=storms, histories=histories, booted=booted)
    from bulkhead.conformance.sequences import soak as conformance
    from bulkhead.provision import checks

    if storms:
        checks.storms(storms)
    if histories:
        from bulkhead.conformance.histories import cli

        cli.main(histories, seed, keep=True)
    if booted:
        from bulkhead.conformance.sequences import campaign

        campaign.main("qemu", calls=booted, seed=seed, record=True)
    if calls:
        conformance.main(calls, seed)


@command(on="host (engine/core, on the host build), qemu (the shipped image) or all")
def coverage(_: Context, on: str = "all") -> None:
    """Count which lines and branches of the engine tests execute, `--on host` (engine/core) or qemu (the image).

    Refuses too little, and gaps that nobody explains.
    """
    from bulkhead.coverage import el2, host
    from bulkhead.errors import InvalidInput

    if on not in ("host", "qemu", "all"):
        raise InvalidInput(f"coverage on '{on}' is not counted", where="--on", hint="host, qemu or all")
    if on != "qemu":
        host.main()
    if on != "host":
        el2.main()


@command
def sanitize(_: Context) -> None:
    """Run the host build under AddressSanitizer and ThreadSanitizer."""
    from bulkhead import sanitize as sanitizers

    sanitizers.main()


@command(
    minutes="how long, in minutes (1)",
    keep="make the corpus in the repository anew of all inputs that are known to add something",
    replay="an input, or a directory of inputs, whose steps are shown in place of a run",
)
def fuzz(_: Context, minutes: float = 1.0, keep: bool = False, replay: str = "") -> None:
    """Fuzz the host build against the specification; `--keep` what is new, `--replay` one input or a directory."""
    at_least(0.1, minutes=minutes)
    from bulkhead.fuzz import campaign

    if replay:
        campaign.show(Path(replay))
    else:
        campaign.main(minutes=minutes, keep=keep)


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


@command(vmlinux="ELF file of the guest's kernel, for its symbols")
def debug(_: Context, vmlinux: str = "") -> None:
    """Start the machine halted, with gdb and the symbols of engine and hypervisor (and a guest's vmlinux) loaded."""
    from bulkhead.machine import debug as machine

    raise Exit(code=machine.main(vmlinux))


@command
def prove(_: Context) -> None:
    """Prove the machine code of the calls against the specification."""
    from bulkhead.prove import cli

    cli.main()


@command
def spec(_: Context) -> None:
    """Render the specification as a page: conditions, effects, state diagrams, invariants, what is proved."""
    from bulkhead.report.specification import page

    page.main()


@command
def wheel(_: Context) -> None:
    """Build the Python package with images and host library, to be installed where there is no checkout."""
    from bulkhead.image import wheel as package

    package.main()


@command(cache="also the downloads and toolchains of this user")
def clean(_: Context, cache: bool = False) -> None:
    """Remove what was built; with `--cache` also the downloads and toolchains of this user."""
    from bulkhead.provision import checks

    checks.clean(cache=cache)
