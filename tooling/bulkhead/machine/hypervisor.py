"""Bringing up a machine on which the hypervisor answers, and VMs in it.

Trust label: TOOL.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from bulkhead.inspect import checks
from bulkhead.inspect.engine import EngineView, stopped_view
from bulkhead.inspect.panic import describe_panic
from bulkhead.inspect.symbols import Symbols
from bulkhead.machine.guest import GuestPlan
from bulkhead.machine.link import Link, wait_ready
from bulkhead.machine.qemu import QemuConfig, QemuMachine
from bulkhead.machine.shim import Destroyed, Shim, StartedVm
from bulkhead.machine.store import write_store

KERNEL, INITRD, DISK = "kernel", "initrd", "disk"  # names in the image store
READY_SECONDS = 60.0
NANOSECONDS = 1_000_000_000
# Stages of the engine's boot in the order of the counters (`Stage` in engine/image/src/time.rs).
BOOT_STAGES = (
    "first instruction", "MMU on", "machine known", "memory reserved", "tables built", "host loaded", "host entered",
)  # fmt: skip


@dataclass(frozen=True)
class MachineSpec:
    """The machine to run on: the bootable image, the engine's ELF file, and its size in bytes and CPUs."""

    image: Path
    engine: Path
    memory: int = 1 << 30
    cpus: int = 2
    cpu_model: str = "neoverse-n1"
    icount: bool = False
    program: str = "qemu-system-aarch64"
    time_limit: float = 300.0
    keep_store: Path | None = None
    """Where to leave the image store, for the printed command to work later; None: a private place."""


@dataclass
class Hypervisor:
    """A machine whose hypervisor has answered."""

    machine: QemuMachine
    shim: Shim
    symbols: Symbols
    frames: dict[int, frozenset[int]] = field(default_factory=dict)

    @contextlib.contextmanager
    def view(self) -> Iterator[EngineView]:
        """Stop the machine and look at it."""
        with stopped_view(self.machine, self.symbols) as view:
            yield view

    def start(
        self, plan: GuestPlan, *, initrd: bool = True, disk: bool = False, disk_size: int = 0
    ) -> StartedVm:
        """Create and run the VM that `plan` describes, from the store's kernel, initrd and disk.

        The disk has `disk_size` bytes if that is not 0; with no file of the store, zeros.
        """
        return self.shim.start(
            plan, kernel=KERNEL, initrd=INITRD if initrd else None, disk=DISK if disk else None,
            disk_size=disk_size,
        )  # fmt: skip

    def examine(self, vm: int) -> None:
        """Compare records with translation tables (CheckFailed) and remember the VM's frames."""
        with self.view() as view:
            checks.require(checks.isolation_faults(view), "records and translation tables disagree")
            self.frames[vm] = frozenset(view.frames_of(vm))

    def destroy(self, vm: int, *, running: bool) -> Destroyed:
        """End a VM and see for ourselves that nothing of it is left. CheckFailed if something is."""
        if running:
            self.shim.stop(vm)
        self.examine(vm)
        said = self.shim.destroy(vm)
        with self.view() as view:
            checks.require(checks.scrub_faults(view, vm, self.frames[vm]), f"VM {vm} left something behind")
            checks.require(checks.isolation_faults(view), "records and translation tables disagree")
        if not said.scrubbed:
            checks.require([f"it found contents in the {said.frames} frames"], "the hypervisor contradicts")
        return said


@contextlib.contextmanager
def hypervisor(
    spec: MachineSpec, store: Mapping[str, bytes], say: Callable[[str], None] | None = None
) -> Iterator[Hypervisor]:
    """Start the machine with `store` in its initrd and wait for the hypervisor; all ends with the block."""
    symbols = Symbols(spec.engine)
    with tempfile.TemporaryDirectory(prefix="bulkhead-") as private:
        path = spec.keep_store or Path(private) / "store.img"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            write_store(stream, store)
        config = QemuConfig(
            kernel=spec.image, initrd=path, memory=spec.memory, cpus=spec.cpus, cpu_model=spec.cpu_model,
            icount=spec.icount, program=spec.program, decode_panic=lambda dump: describe_panic(dump, symbols),
        )  # fmt: skip
        with QemuMachine(config, time_limit=spec.time_limit, say=say) as machine:
            link = Link(machine.link, machine.wait_until)
            wait_ready(link, timeout=READY_SECONDS)
            yield Hypervisor(machine, Shim(link), symbols)


def count_boot(spec: MachineSpec) -> dict[str, int]:
    """Instructions executed from power-on to each stage of the engine's boot.

    A boot of its own, in which QEMU counts (1 instruction = 1 ns of virtual time, Arm's counter shows it in steps
    of 16): the figures do not depend on this computer. The run proper does not count, because that costs more than
    twice the time and serialises the CPUs.
    """
    with hypervisor(replace(spec, icount=True), {}) as host:
        stats = host.shim.stats()
    per_tick = NANOSECONDS // stats.cntfrq
    return {name: stats.stages[f"boot{index}"] * per_tick for index, name in enumerate(BOOT_STAGES)}
