"""An NVMe controller driven through its admin queue, and one pair of queues for reads. Source: NVM Express Base
Specification 2.0, 3.1.3, 3.5.1, 5.4, 5.5, 5.17; NVM Command Set Specification 1.0, 3.2.4.

Trust label: TOOL.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

from boot.devices.bus import Registers, load, store
from boot.devices.pci import DEVICE_CONTROL, EXPRESS, FUNCTION_RESET, Function, function
from bulkhead.image.memory_map import PAGE, device

OPTION = "nvme,serial=1"
SLOW_DRIVE = ("-drive", "if=none,id=slow,driver=null-co,size=1M,read-zeroes=on,throttling.iops-total=2")
SLOW_OPTIONS = ("nvme,serial=1,id=ctrl", "nvme-ns,drive=slow,bus=ctrl")
"""A controller with a namespace of zeros that serves two reads a second."""
VIRTUAL_OPTIONS = (
    "nvme-subsys,id=sub",
    "nvme,serial=1,subsys=sub,sriov_max_vfs=2,sriov_vq_flexible=4,sriov_vi_flexible=2,max_ioqpairs=6,msix_qsize=5",
)
"""A controller with two virtual functions."""
CONFIGURATION, STATUS = 0x14, 0x1C
QUEUE_SIZES, SUBMISSION, COMPLETION = 0x24, 0x28, 0x30
TAIL, HEAD = 0x1000, 0x1004
ENABLE = 1 | 6 << 16 | 4 << 20
READY, FATAL = 1, 2
ENTRIES, READS = 4, 3
IDENTIFY, CONTROLLER = 6, 1
CREATE_COMPLETION, CREATE_SUBMISSION, READ = 5, 1, 2
CONTIGUOUS = 1
MANAGE, RELEASE, ASSIGN, ONLINE = 0x1C, 1, 8, 9
VIRTUAL_QUEUES, VIRTUAL_INTERRUPTS = 0, 1
COMMAND_SIZE, COMPLETION_SIZE = 64, 16
SECONDS = 10.0
SOON = 0.05
"""Seconds after which a command of its own making is done."""
LATE = 1.5
"""Seconds after which a slow drive has served everything."""


def command(code: int, identifier: int, target: int, *words: int, namespace: int = 0) -> bytes:
    """A submission queue entry whose data lie at `target`; `words` are its command words from 10 on."""
    head = struct.pack("<BBHIQQQQ", code, 0, identifier, namespace, 0, 0, target, 0)
    return (head + struct.pack(f"<{len(words)}I", *words)).ljust(COMMAND_SIZE, b"\0")


def identify(target: int, identifier: int = 1) -> bytes:
    """The command that makes the controller write 4 KiB about itself to `target`."""
    return command(IDENTIFY, identifier, target, CONTROLLER)


class Nvme:
    """The controller behind `function`, whose BAR it places at `base`, an address of the PCIe memory window."""

    def __init__(self, function: Function, base: int = device("PCIE_MMIO").base + 0x10_0000) -> None:
        self.bus = function.bus
        self.base = base
        self.tail = 0
        function.place(0, base)
        function.enable()

    @property
    def status(self) -> int:
        """Controller status: bit 0 ready, bit 1 fatal."""
        return load(self.bus, self.base + STATUS)

    @property
    def failed(self) -> bool:
        """Whether the controller has given up, as it does when it cannot reach a queue."""
        return bool(self.status & FATAL)

    def start(self, submission: int, completion: int) -> None:
        """Enable the controller with its admin queues at these addresses, page-aligned, of ENTRIES entries."""
        store(self.bus, self.base + CONFIGURATION, 0)
        self._wait(0, READY)
        store(self.bus, self.base + QUEUE_SIZES, (ENTRIES - 1) << 16 | (ENTRIES - 1))
        for register, address in ((SUBMISSION, submission), (COMPLETION, completion)):
            store(self.bus, self.base + register, address, 8)
        store(self.bus, self.base + CONFIGURATION, ENABLE)
        self._wait(READY, READY)
        self.tail = 0

    def start_reading(self, queues: int, target: int) -> None:
        """Create queue pair 1 and submit three reads of one page each, to `target` and the pages after it.

        Four pages at `queues` hold all the queues.
        """
        admin, admin_done, submission, completion = (queues + PAGE * index for index in range(4))
        for page in range(queues, queues + 4 * PAGE, PAGE):
            self.bus.write(page, bytes(PAGE))
        size = (ENTRIES - 1) << 16 | 1
        entries = (
            command(CREATE_COMPLETION, 1, completion, size, CONTIGUOUS),
            command(CREATE_SUBMISSION, 2, submission, size, 1 << 16 | CONTIGUOUS),
        )
        self.bus.write(admin, b"".join(entries))
        blocks = PAGE // 512 - 1
        reads = [
            command(READ, 3 + one, target + one * PAGE, 0, 0, blocks, namespace=1) for one in range(READS)
        ]
        self.bus.write(submission, b"".join(reads))
        self.start(admin, admin_done)
        for done in range(len(entries)):
            self.ring()
            self._until(
                lambda done=done: load(self.bus, admin_done + COMPLETION_SIZE * done + 12) >> 16 & 1 == 1
            )
        store(self.bus, self.base + TAIL + 8, READS)

    def manage(self, queues: int, *actions: tuple[int, int, int, int]) -> None:
        """Virtualization Management: action, controller, kind, number. The admin queues get two pages at `queues`."""
        for page in (queues, queues + PAGE):
            self.bus.write(page, bytes(PAGE))
        self.start(queues, queues + PAGE)
        for index, (action, controller, kind, number) in enumerate(actions):
            words = (controller << 16 | kind << 8 | action, number)
            entry = command(MANAGE, index + 1, 0, *words)
            self.bus.write(queues + COMMAND_SIZE * index, entry)
            self.ring()
            done = queues + PAGE + COMPLETION_SIZE * index + 12
            self._until(lambda done=done: load(self.bus, done) >> 16 & 1 == 1)
            status = load(self.bus, done) >> 17
            assert status == 0, f"action {action} for controller {controller}: status {status:#x}"

    def ring(self) -> None:
        """Tell the controller that one more command is in its submission queue, whoever put it there."""
        self.tail = (self.tail + 1) % ENTRIES
        store(self.bus, self.base + TAIL, self.tail)

    def settle(self, seconds: float = 0.3) -> None:
        """Give the controller time for what it was told; returns early if it fails."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and not self.failed:
            time.sleep(0.01)

    def _wait(self, value: int, mask: int) -> None:
        self._until(lambda: self.status & mask == value)

    def _until(self, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < limit, f"controller status {self.status:#x}"


def bring_up_virtual(function: Function, queues: int, base: int) -> int:
    """The first virtual function of a controller goes online, its BAR at `base`; its configuration page, whose Command
    register it still waits for. Two pages at `queues`. Source: base specification, 5.26 and 8.26: the controller gives
    up queues and interrupts, which takes a reset, and assigns them.
    """
    parent = Nvme(function)
    parent.manage(queues, (RELEASE, 0, VIRTUAL_INTERRUPTS, 0), (RELEASE, 0, VIRTUAL_QUEUES, 0))
    offset = next(place for kind, place in function.capabilities() if kind == EXPRESS)
    function.set_config(offset + DEVICE_CONTROL, FUNCTION_RESET, 2)
    parent = Nvme(function)
    (page,) = function.virtual_functions(1, base)
    parent.manage(
        queues, (ASSIGN, 1, VIRTUAL_QUEUES, 2), (ASSIGN, 1, VIRTUAL_INTERRUPTS, 1), (ONLINE, 1, 0, 0)
    )
    return page


def ring_blindly(bus: Registers, base: int, submission: int, completion: int) -> None:
    """Start the controller with registers at `base` and ring for its first command, whether anybody listens or not."""
    store(bus, base + CONFIGURATION, 0)
    for register, address in ((SUBMISSION, submission), (COMPLETION, completion)):
        store(bus, base + register, address, 8)
    store(bus, base + QUEUE_SIZES, (ENTRIES - 1) << 16 | (ENTRIES - 1))
    store(bus, base + CONFIGURATION, ENABLE)
    store(bus, base + TAIL, 1)
    time.sleep(SOON)


def late_reads(bus: Registers, number: int, queues: int, target: int, close: Callable[[], object]) -> int:
    """Submits three reads to `target` with a slow drive, calls `close` while two are under way, waits for them.

    The host has written ones there after `close`; how many pages are zeros in the end, as the drive's content is.
    `queues`: four pages in an open window.
    """
    pages = [target + one * PAGE for one in range(READS)]
    controller = Nvme(function(bus, number))
    controller.start_reading(queues, target)
    close()
    for page in pages:
        bus.write(page, b"\xff" * PAGE)
    time.sleep(LATE)
    return sum(bus.read(page, PAGE) == bytes(PAGE) for page in pages)
