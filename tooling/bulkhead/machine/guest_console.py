"""Talking to a VM's serial port, and noticing that its kernel is lost. Trust label: TOOL."""

from __future__ import annotations

import re
import time

from bulkhead.errors import MachineError, MachineTimeout
from bulkhead.machine.errors import tail
from bulkhead.machine.hypervisor import Hypervisor
from bulkhead.machine.script import ScriptResult, ScriptRun
from bulkhead.machine.shim import ExitReason, VmExit

GREETING_SECONDS = 3.0  # between two attempts to wake a shell
LAST_WORDS_SECONDS = 1.0  # that a panicking kernel gets to print its reasons
TYPING_SECONDS = 30.0  # that a guest may leave typed bytes unread
PIECE = 128  # bytes typed at once
# The last words of Linux, UEFI (EDK2) and U-Boot.
PANIC = re.compile(
    rb"^(\[ *\d+\.\d+\] )?Kernel panic - not syncing|^Synchronous Exception at 0x|^\"Synchronous Abort\" handler",
    re.MULTILINE,
)

OF_A_KERNEL = "is this kernel meant for the platform? try another --append"
OF_FIRMWARE = (
    "is it meant for QEMU's machine virt? firmware that reads its flash by LDP crashes so (UEFI of Debian 12); "
    "`--firmware uefi` does not"
)


class GuestDied(MachineError):
    """The guest's kernel panicked, or the engine ended the VM. `output` is all it printed."""

    def __init__(self, why: str, output: bytes | bytearray, hint: str = OF_A_KERNEL) -> None:
        text = tail(output.decode(errors="replace"))
        said = f"; its last lines:\n{text}" if text else "; it printed nothing"
        super().__init__(f"the guest died: {why}{said}", hint=hint)
        self.why = why
        self.output = bytes(output)


class GuestConsole:
    """The serial port of one VM."""

    def __init__(self, hypervisor: Hypervisor, vm: int) -> None:
        self.vm = vm
        self._hypervisor = hypervisor
        self._shim = hypervisor.shim
        self._checked = 0
        self.output = hypervisor.shim.output.setdefault(vm, bytearray())
        """Everything the guest has printed so far; it grows by itself."""

    @property
    def end(self) -> VmExit | None:
        """How the VM ended, None while it runs."""
        return self._shim.exits.get(self.vm)

    def send(self, data: bytes) -> None:
        """Type, as fast as the guest reads. MachineTimeout if it has not read anything for a while."""
        limit = time.monotonic() + TYPING_SECONDS
        position = 0
        while position < len(data) and self.end is None:
            piece = data[position : position + PIECE]
            if self._shim.console(self.vm, piece):
                position += len(piece)
                limit = time.monotonic() + TYPING_SECONDS
            else:
                self._step(limit, "the guest to read what was typed")

    def offer(self, data: bytes) -> None:
        """Type if there is room at once, else do nothing."""
        if self.end is None:
            self._shim.console(self.vm, data)

    def check(self) -> None:
        """GuestDied if the kernel has panicked or the VM ended in any way but by its own decision."""
        end = self.end
        if end is not None and end.reason not in (ExitReason.OFF, ExitReason.RESET):
            raise GuestDied(f"{end.reason} {end.detail}".strip(), self.output)
        new = self.output.rfind(b"\n", 0, self._checked) + 1
        self._checked = len(self.output)
        if panic := PANIC.search(self.output, new):
            self._last_words()
            if b"Kernel" in panic[0]:
                raise GuestDied("its kernel panicked", self.output)
            raise GuestDied("its firmware crashed", self.output, OF_FIRMWARE)

    def wait_a_little(self) -> None:
        """Let the machine go on for a quarter of a second at most, as long as the guest is well."""
        self.check()
        self._hypervisor.machine.pump(0.25)

    def wait(self, text: bytes, seconds: float) -> None:
        """Wait until the guest has printed `text`. GuestDied or MachineTimeout otherwise."""
        limit = time.monotonic() + seconds
        while text not in self.output:
            self._step(limit, f"the guest to print {text!r}")

    def wait_end(self, seconds: float) -> VmExit:
        """Wait until the VM has ended by itself."""
        limit = time.monotonic() + seconds
        while self.end is None:
            self._step(limit, "the guest to end")
        self.check()
        return self.end

    def run(self, script: str, seconds: float) -> ScriptResult:
        """Run shell commands in the guest. GuestDied if it ends instead, MachineTimeout after `seconds`."""
        run = ScriptRun(script)
        limit = time.monotonic() + seconds
        next_greeting = 0.0
        while not run.ready(self.output):
            if time.monotonic() >= next_greeting:
                self.offer(run.greeting())
                next_greeting = time.monotonic() + GREETING_SECONDS
            self._step(limit, "a shell in the guest")
        self.send(run.commands())
        while (result := run.result(self.output)) is None:
            if self.end is not None:
                return self._ended_in_script(run)
            self._step(limit, "the script to end")
        return result

    def _ended_in_script(self, run: ScriptRun) -> ScriptResult:
        """A script that switches the guest off has ended well with what it printed until then."""
        self.check()
        return ScriptResult(run.partial(self.output), 0)

    def _step(self, limit: float, what: str) -> None:
        self.check()
        if self.end is not None:
            raise GuestDied(f"it ended ({self.end.reason}) while waiting for {what}", self.output)
        if time.monotonic() > limit:
            said = tail(self.output.decode(errors="replace"))
            raise MachineTimeout(
                f"waited for {what} in vain; the guest's last lines:\n{said}",
                hint="give more time with --timeout",
            )
        self._hypervisor.machine.pump(limit - time.monotonic())

    def _last_words(self) -> None:
        limit = time.monotonic() + LAST_WORDS_SECONDS
        while self.end is None and time.monotonic() < limit:
            self._hypervisor.machine.pump(limit - time.monotonic())
