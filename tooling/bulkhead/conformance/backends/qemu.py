"""The QEMU backend: the shipped engine image, with the payload program as its host, booted once for many tests.

Trust label: TOOL. Calls travel over the management link; everything about the engine is read from RAM itself.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bulkhead.conformance.backends.backend import BLOCK, PAGE, Layout
from bulkhead.conformance.backends.payload import PayloadBackend
from bulkhead.errors import MachineError
from bulkhead.image.build import Images, build
from bulkhead.image.memory_map import window
from bulkhead.inspect.engine import EngineView, stopped_view
from bulkhead.inspect.panic import describe_panic
from bulkhead.inspect.ram import RamSnapshot
from bulkhead.inspect.records import Kind
from bulkhead.inspect.symbols import Symbols
from bulkhead.machine.link import Link, wait_ready
from bulkhead.machine.qemu import RAM_BASE, QemuConfig, QemuMachine
from bulkhead.provision import qemu
from bulkhead.provision.toolchain import Kind as Toolchain

MEMORY = 256 << 20
SESSION_LIMIT = 3600.0
"""Seconds that one boot may live."""
READY_LIMIT = 60.0


class QemuBackend(PayloadBackend):
    """A machine in QEMU."""

    name = "qemu"
    raw_memory = True
    whole_blocks: tuple[int, ...] = ()
    layout: Layout
    programs: frozenset[int]
    """Addresses of the blocks that the host program is in: those that it has touched when it is ready."""

    def __init__(
        self,
        images: Images,
        program: str = "qemu-system-aarch64",
        cpus: int = 2,
        cpu_model: str = "neoverse-n1",
        devices: tuple[str, ...] = (),
        extra: tuple[str, ...] = (),
        untouched: int = 0,
        smmu: bool = True,
    ) -> None:
        """Boots `images` (made with the payload) and starts all CPUs. MachineError if that fails. `untouched`: so many
        blocks at least are left as boot leaves them, UNCLEARED.

        The files are copied first: what is built meanwhile must not slip into a later boot of the same session.
        """
        self.images = images
        self._untouched = untouched
        self._files = tempfile.TemporaryDirectory(prefix="bulkhead-")
        kernel = Path(shutil.copy(images.image, self._files.name))
        self._symbols = Symbols(Path(shutil.copy(images.elf, self._files.name)))
        self._config = QemuConfig(
            kernel=kernel,
            memory=MEMORY,
            cpus=cpus,
            cpu_model=cpu_model,
            devices=devices,
            extra=extra,
            program=program,
            smmu=smmu,
            decode_panic=lambda dump: describe_panic(dump, self._symbols),
        )
        self._running = ExitStack()
        self._boot()

    @classmethod
    def start(cls, toolchain: Toolchain = "pinned") -> QemuBackend:
        """Build what is not built yet, and boot it."""
        return cls(build(toolchain, "payload"), str(qemu.ensure()))

    def _boot(self) -> None:
        with ExitStack() as attempt:
            self._machine = attempt.enter_context(QemuMachine(self._config, time_limit=SESSION_LIMIT))
            self._link = Link(self._machine.link, self._machine.wait_until)
            wait_ready(self._link, timeout=READY_LIMIT)
            self.start_cpus(self._config.cpus)
            self._ram = RamSnapshot(self._machine.ram, RAM_BASE, self._config.memory)
            with stopped_view(self._machine, self._symbols) as view:
                self.layout = layout_of(view)
                self._lock = view.physical(self._symbols.address("LOCK"))
                kinds = {
                    address: view.block_record(number)
                    for number, address in enumerate(range(RAM_BASE, self.layout.end, BLOCK))
                }
            untouched = [address for address, kind in kinds.items() if kind == Kind.UNCLEARED]
            self.programs = frozenset(address for address, kind in kinds.items() if kind == Kind.HOST)
            for block in untouched[self._untouched :]:  # tests choose among blocks that are simply the host's
                self._link.call("read", {"address": block, "length": 8})
            self._running = attempt.pop_all()

    @property
    def machine(self) -> QemuMachine:
        """The machine itself."""
        return self._machine

    @property
    def symbols(self) -> Symbols:
        """Of the engine."""
        return self._symbols

    def physical(self, address: int, length: int) -> bytes:
        """See Backend."""
        return self._ram.read(address, length)

    def poke(self, address: int, data: bytes) -> None:
        """Change raw RAM, whoever owns it."""
        os.pwrite(self._machine.ram, data, address - RAM_BASE)

    def find(self, pattern: bytes) -> list[int]:
        """Physical addresses in RAM where `pattern` is."""
        return self._ram.find(pattern)

    def storm(self, *, timeout: float, **plan: int) -> dict[str, Any]:
        """Random calls on all CPUs at once (`payload/src/storm.rs`); what became of them (`payload/src/tally.rs`)."""
        return self._link.call("storm", plan, timeout=timeout)

    def hold_lock(self, held: bool) -> None:
        """See Backend: the engine's word `LOCK`, changed from outside."""
        self.poke(self._lock, struct.pack("<Q", held))

    def lock_is_held(self) -> bool:
        """Whether a CPU has the ownership lock."""
        return self.physical(self._lock, 8) != bytes(8)

    def reset(self) -> None:
        """See Backend: a new boot."""
        self._running.close()
        self._boot()

    def close(self) -> None:
        """See Backend."""
        self._running.close()
        self._files.cleanup()


def layout_of(view: EngineView) -> Layout:
    """Physical addresses from the engine's own translation tables."""
    config = view.config
    blocks = config.frames * PAGE // BLOCK
    split = [block for block in range(blocks) if view.block_record(block) == Kind.SPLIT]
    return Layout(
        ram_base=config.ram_base,
        frames=config.frames,
        cpus=config.cpus,
        block_records=_contiguous(view, window("BLOCKS").base, 8 * blocks),
        frame_records=_contiguous(view, window("FRAMES").base, 8 * config.frames),
        host_level2=_contiguous(view, window("HOST_L2").base, 8 * blocks),
        dma_level2=_contiguous(view, window("DMA_L2").base, 8 * blocks),
        host_root=view.host_root,
        vm_records=_contiguous(view, view.symbols.address("VMS"), 64 * 512),
        split_block=config.ram_base + split[0] * BLOCK,
    )


def _contiguous(view: EngineView, address: int, size: int) -> int:
    """Physical address of an array, whose pages must follow each other there too."""
    first = view.physical(address)
    for offset in range(0, size, PAGE):
        if view.physical(address + offset) != first + offset:
            raise MachineError(
                f"the array at {address:#x} is not contiguous in RAM", hint="adapt the backend"
            )
    return first
