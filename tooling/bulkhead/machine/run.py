"""The main job: build, boot, run a guest in an isolated VM, and prove by inspection that nothing of it stays.

Trust label: TOOL. Exit statuses: 0 the guest ended well (or the script's own status), 1 another failure, 2
bad options or input, 3 the guest died, 4 the engine panicked, 5 out of time, 130 interrupted.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bulkhead.errors import BulkheadError, CheckFailed, InvalidInput, MachineTimeout
from bulkhead.image import build
from bulkhead.image.build import BUILD
from bulkhead.machine.errors import EnginePanic
from bulkhead.machine.firmware import plan_firmware, read_firmware
from bulkhead.machine.firmware_session import pipe_lines
from bulkhead.machine.guest import GuestPlan, plan_guest
from bulkhead.machine.guest_console import GuestConsole, GuestDied
from bulkhead.machine.hypervisor import DISK, INITRD, KERNEL, Hypervisor, MachineSpec, count_boot, hypervisor
from bulkhead.machine.kernel import Kernel, read_disk, read_file, read_kernel
from bulkhead.machine.options import RunOptions
from bulkhead.machine.shim import Destroyed, Stats
from bulkhead.machine.terminal import Keyboard
from bulkhead.provision import guests, pkvm_kernel, qemu
from bulkhead.provision.paths import cache_dir, in_checkout
from bulkhead.report.run import Reporter

SILENCE_SECONDS = 15.0  # after which a guest that shows no prompt is taken to listen
PROMPT = re.compile(rb"[#$>] (\x1b\[6n)?$")  # at the end of the output; BusyBox asks for the cursor behind it
PROMPT_SPAN = 16
LAST_LINES = 4  # of the hypervisor's log, shown when a run has failed
LEAVING_SECONDS = 30.0  # for a piped session to run its last commands after the end of its input


@dataclass
class RunResult:
    """Everything a run found out; `status` is the exit status, `outcome` one word for how the guest ended."""

    status: int = 0
    outcome: str = ""
    error: str = ""
    output: bytes = b""
    measurement: str = ""
    memory: int = 0
    cpus: int = 0
    frames_of_vm: int = 0
    destroyed: Destroyed | None = None
    scrub_verified: bool = False
    stats: Stats | None = None
    instructions: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def status_of(error: BaseException) -> int:
    """The exit status that stands for an error."""
    kinds = (
        (InvalidInput, 2),
        (GuestDied, 3),
        (EnginePanic, 4),
        (MachineTimeout, 5),
        (KeyboardInterrupt, 130),
    )
    return next((status for kind, status in kinds if isinstance(error, kind)), 1)


@dataclass(frozen=True)
class Guest:
    """A guest that has been read and placed: a kernel and its initrd, or firmware and its payload."""

    kernel: Kernel
    initrd: bytes
    plan: GuestPlan
    disk: bytes = b""

    def store(self) -> dict[str, bytes]:
        """Its files as the image store carries them."""
        files = {KERNEL: self.kernel.content, INITRD: self.initrd, DISK: self.disk}
        return {name: content for name, content in files.items() if content}

    @property
    def measurement(self) -> bytes:
        """What its VM's launch measurement must be."""
        return self.plan.measurement(self.kernel.content, self.initrd).digest


def read_guest(options: RunOptions) -> Guest:
    """Read and check the guest that was asked for (the pinned stock guest if none was)."""
    if options.firmware is not None:
        return _read_firmware(options, options.firmware)
    kernel_path, initrd_path = _linux_files(options)
    kernel = read_kernel(kernel_path, flat=options.load_address is not None)
    initrd = read_file(initrd_path, "initrd") if initrd_path else b""
    plan = plan_guest(
        kernel, len(initrd), memory=options.memory, cpus=options.cpus, append=options.append,
        load_address=options.load_address, cpu_model=options.cpu_model, with_disk=options.disk is not None,
        pkvm=options.pkvm,
    )  # fmt: skip
    return Guest(kernel, initrd, plan, read_disk(options.disk) if options.disk else b"")


def _linux_files(options: RunOptions) -> tuple[Path, Path | None]:
    """The kernel and the initial RAM disk."""
    if options.kernel is not None:
        return options.kernel, options.initrd
    stock = guests.ensure()
    return pkvm_kernel.ensure() if options.pkvm else stock.kernel, options.initrd or stock.initrd


def _read_firmware(options: RunOptions, choice: str) -> Guest:
    firmware = read_firmware(choice)
    payload = read_file(options.payload, "payload") if options.payload else b""
    plan = plan_firmware(
        firmware, memory=options.memory, cpus=options.cpus, cpu_model=options.cpu_model, payload=len(payload)
    )
    return Guest(firmware, payload, plan)


def measure(options: RunOptions) -> None:
    """Print the launch measurement that a run with these options must have; if asked for, its steps before it."""
    guest = read_guest(options)
    launch = guest.plan.measurement(guest.kernel.content, guest.initrd)
    lines = [*(launch.steps if options.verbose else ()), launch.digest.hex()]
    text = "".join(f"{line}\n" for line in lines)
    Reporter(json=False, verbose=False, live=False).output(text.encode())


def main(options: RunOptions) -> int:
    """Do the whole job; the exit status. What a user can get wrong is checked before a start."""
    reporter = Reporter(json=options.json, verbose=options.verbose, live=options.script is None)
    result = RunResult(memory=options.memory, cpus=options.cpus)
    try:
        _run(options, reporter, result)
    except (BulkheadError, KeyboardInterrupt) as error:
        result.status = status_of(error)
        result.error = str(error) or "interrupted"
        result.outcome = result.outcome or type(error).__name__
        if isinstance(error, GuestDied):
            result.outcome, result.output = "died", error.output
    reporter.finish(result)
    return result.status


def _run(options: RunOptions, reporter: Reporter, result: RunResult) -> None:
    files = ((options.kernel, "kernel"), (options.initrd, "initrd"), (options.payload, "payload"))
    for path, what in files:
        if path is not None:
            read_file(path, what)
    if options.disk is not None:
        read_disk(options.disk)
    with reporter.stage("tools", result):
        program = qemu.ensure(options.qemu)
    with reporter.stage("guest", result):
        guest = read_guest(options)
    with reporter.stage("build", result):
        built = build.build(options.toolchain)
    spec = MachineSpec(
        image=built.image, engine=built.elf, memory=options.machine_memory, cpus=options.host_cpus,
        cpu_model=options.cpu_model, program=str(program), time_limit=options.time_limit,
        keep_store=_store() if options.verbose else None,
    )  # fmt: skip
    with reporter.stage("count", result):
        result.instructions = count_boot(replace(spec, keep_store=None))
    with _running(spec, guest, reporter, result) as host:
        _guest_life(host, guest, options, reporter, result)


def _store() -> Path:
    """Where the image store stays after the run, for the printed command to work later."""
    return (BUILD if in_checkout() else cache_dir()) / "run-store.img"


@contextmanager
def _running(spec: MachineSpec, guest: Guest, reporter: Reporter, result: RunResult) -> Iterator[Hypervisor]:
    start = time.monotonic()
    with hypervisor(spec, guest.store(), reporter.verbose_line) as host:
        result.seconds["boot"] = time.monotonic() - start
        try:
            yield host
        except BulkheadError:
            for line in host.shim.log_lines[-LAST_LINES:]:
                reporter.say(f"the hypervisor said: {line}")
            raise


def _guest_life(
    host: Hypervisor, guest: Guest, options: RunOptions, reporter: Reporter, result: RunResult
) -> None:
    with reporter.stage("start", result):
        started = host.start(guest.plan, initrd=bool(guest.initrd), disk=bool(guest.disk))
    result.measurement = measured(host, started.vm, guest.measurement).hex()
    console = GuestConsole(host, started.vm)
    try:
        if options.script is not None:
            with reporter.stage("script", result):
                done = console.run(options.script, options.time_limit)
            result.output, result.status = done.output, done.status
            reporter.output(done.output)
        else:
            _interactive(host, console, reporter, firmware=options.firmware is not None)
    finally:
        if options.script is None:
            result.output = bytes(console.output)
        if host.machine.alive:
            result.outcome = _outcome(console)
            _close(host, started.vm, console, reporter, result)


def measured(host: Hypervisor, vm: int, expected: bytes) -> bytes:
    """The VM's launch measurement from the engine's own record. CheckFailed if the hypervisor has built another VM."""
    with host.view() as view:
        digest = view.vm(vm).measurement
    if digest != expected:
        raise CheckFailed(
            f"VM {vm} is not what was asked for: it was measured as {digest.hex()}, not {expected.hex()}",
            hint="the hypervisor has built another VM; do not give it secrets",
        )
    return digest


def _outcome(console: GuestConsole) -> str:
    return console.end.reason.value if console.end else "destroyed"


def _close(host: Hypervisor, vm: int, console: GuestConsole, reporter: Reporter, result: RunResult) -> None:
    """Destroy the VM and see that nothing of it stays, whatever its end was."""
    result.stats = host.shim.stats()
    with reporter.stage("destroy", result):
        result.destroyed = host.destroy(vm, running=console.end is None)
    result.frames_of_vm = len(host.frames[vm])
    result.scrub_verified = True
    result.stats = replace(result.stats, pages_reclaimed=host.shim.stats().pages_reclaimed)


def _interactive(host: Hypervisor, console: GuestConsole, reporter: Reporter, *, firmware: bool) -> None:
    """The user's terminal is the guest's until Ctrl-], the guest's end, or the end of piped input."""
    keyboard = Keyboard(host.machine.loop, console.send)
    reporter.say(f"VM {console.vm} runs{'; Ctrl-] leaves' if keyboard.is_terminal else ''}")
    if firmware and not keyboard.is_terminal:
        pipe_lines(host, console, reporter, keyboard)
        return
    shown = 0 if keyboard.is_terminal else _await_prompt(host, console, reporter)
    with keyboard.attached():
        while console.end is None and not keyboard.left:
            host.machine.pump(0.25)
            keyboard.flush()
            shown = reporter.live_output(console.output, shown)
            console.check()
            if keyboard.ended:
                shown = _drain(host, console, reporter, shown)
                break
    reporter.live_output(console.output, shown)
    console.check()


def _await_prompt(host: Hypervisor, console: GuestConsole, reporter: Reporter) -> int:
    """Hold piped input until somebody reads it: a prompt has appeared, or the guest has long been silent."""
    shown, changed = 0, time.monotonic()
    while console.end is None and time.monotonic() - changed < SILENCE_SECONDS:
        host.machine.pump(0.25)
        before, shown = shown, reporter.live_output(console.output, shown)
        console.check()
        if shown != before:
            changed = time.monotonic()
        elif PROMPT.search(console.output[-PROMPT_SPAN:]):
            break
    return shown


def _drain(host: Hypervisor, console: GuestConsole, reporter: Reporter, shown: int) -> int:
    """After the end of piped input: let the shell finish, seen by a mark that it prints itself."""
    mark = f"BULKHEAD-DONE-{time.monotonic_ns()}"
    limit = time.monotonic() + LEAVING_SECONDS
    console.send(f"\nprintf '%s%s\\n' {mark[:9]} {mark[9:]}\n".encode())
    while console.end is None and mark.encode() not in console.output and time.monotonic() < limit:
        host.machine.pump(0.25)
        shown = reporter.live_output(console.output, shown)
        console.check()
    return shown
