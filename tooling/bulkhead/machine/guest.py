"""A guest: what it is made of, where its parts go, and the device tree that describes its platform to it.

Trust label: TOOL. The platform is part of the interface between hypervisor and guest: GICv3, virtual timer,
PSCI by HVC, one PL011. Sources: Devicetree Specification 0.4; Linux Documentation/devicetree/bindings
(arm,gic-v3, arm,armv8-timer, psci, pl011); Documentation/arch/arm64/booting.rst (placement).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import fdt

from bulkhead.errors import InvalidInput
from bulkhead.machine import disk
from bulkhead.machine.kernel import Kernel
from bulkhead.measurement import Measurement

MIB = 1 << 20
RAM_BASE = 0x4000_0000
GICD = (0x0800_0000, 0x1_0000)
GICR = (0x080A_0000, 0x2_0000)  # per vCPU
UART = (0x0900_0000, 0x1000)
UART_SPI = 1  # INTID 33
UART_CLOCK = 24_000_000  # Hz
TIMER_PPIS = (
    13,
    14,
    11,
    10,
)  # secure, non-secure, virtual, hypervisor; the guest may use the virtual one only
LEVEL_HIGH = 4
GIC_PHANDLE = 1
CLOCK_PHANDLE = 2
MAX_CPUS = 8
MIN_MEMORY = 16 * MIB
MAX_MEMORY = 511 << 30  # 39-bit IPA space above RAM_BASE
DTB_SPACE = 2 * MIB  # booting.rst: at most 2 MiB
BLOCK = 2 * MIB
PAGE = 4096

Node = dict[str, Any]  # properties by name; None: a property without a value


def check_size(memory: int, cpus: int) -> None:
    """Refuse a guest that no VM can be: InvalidInput with the limits."""
    if not 1 <= cpus <= MAX_CPUS:
        raise InvalidInput(f"{cpus} vCPUs", where="--cpus", hint=f"ask for 1 to {MAX_CPUS}")
    if memory % BLOCK:
        raise InvalidInput(
            f"{memory} bytes of memory", where="--memory", hint="ask for a multiple of 2 MiB, as in 512M"
        )
    if not MIN_MEMORY <= memory <= MAX_MEMORY:
        raise InvalidInput(
            f"{memory // MIB} MiB of memory",
            where="--memory",
            hint=f"ask for {MIN_MEMORY // MIB}M to {MAX_MEMORY >> 30}G",
        )


@dataclass(frozen=True)
class GuestPlan:
    """Where a guest's parts lie in its own address space (IPA), all in bytes."""

    memory: int
    cpus: int
    kernel_address: int
    initrd_address: int
    initrd_size: int
    dtb_address: int
    dtb: bytes
    code: int = 0
    """Size of the range from address 0 that holds firmware."""
    first: bytes = b""
    """A program that is entered before the kernel, if any, at `first_address`."""
    first_address: int = 0

    @property
    def entry(self) -> int:
        """Where vCPU 0 starts, with the device tree's address in x0."""
        return self.first_address if self.first else self.kernel_address

    @property
    def ram(self) -> list[tuple[int, int]]:
        """RAM ranges: base, bytes."""
        return [*([(0, self.code)] if self.code else []), (RAM_BASE, self.memory)]

    def measurement(self, kernel: bytes, initrd: bytes) -> Measurement:
        """What the VM's launch measurement must be, from this description and the content of the two files alone."""
        launch = Measurement()
        launch.create(self.cpus, 0, self.ram)
        images = (
            (kernel, self.kernel_address),
            (initrd, self.initrd_address),
            (self.dtb, self.dtb_address),
            (self.first, self.first_address),
        )
        for content, address in images:
            for offset in range(0, len(content), PAGE):
                launch.page(address + offset, content[offset : offset + PAGE].ljust(PAGE, b"\0"))
        for index in range(self.cpus):
            launch.vcpu(index)
        launch.entry(self.entry, self.dtb_address)
        return launch

    def link_arguments(self) -> dict[str, Any]:
        """The arguments of the hypervisor's `start` that follow from the plan."""
        return {
            "dtb": self.dtb,
            "kernel_address": self.kernel_address,
            "initrd_address": self.initrd_address,
            "dtb_address": self.dtb_address,
            "entry": self.entry,
            "ram": [list(one) for one in self.ram],
            "cpus": self.cpus,
            "time": int(time.time()),
            **({"first": self.first, "first_address": self.first_address} if self.first else {}),
        }


def plan_guest(
    kernel: Kernel,
    initrd_size: int,
    *,
    memory: int,
    cpus: int,
    append: str,
    load_address: int | None = None,
    cpu_model: str = "neoverse-n1",
    with_disk: bool = False,
    pkvm: bool = False,
) -> GuestPlan:
    """Place kernel, initrd (0: none) and device tree. InvalidInput if they do not fit `memory`.

    The kernel goes to RAM's start plus its text offset (flat binaries to `load_address`), the initrd to the
    next 2 MiB boundary after everything the kernel claims, the device tree to the last 2 MiB. A guest with a disk
    has the pool that it shares at RAM's start, and everything else behind it; `pkvm`: its kernel shares it itself.
    """
    check_size(memory, cpus)
    end = RAM_BASE + memory
    dtb_address = end - DTB_SPACE
    first_free = RAM_BASE + (disk.POOL_SIZE if with_disk else 0)
    kernel_address = first_free + kernel.text_offset if load_address is None else load_address
    if not RAM_BASE <= kernel_address < end or kernel_address % 4096:
        raise InvalidInput(
            f"{kernel_address:#x} is no load address",
            where="--load-address",
            hint=f"choose a multiple of 0x1000 from {RAM_BASE:#x} to {end - 1:#x}",
        )
    initrd_address = -(-(kernel_address + kernel.image_size) // BLOCK) * BLOCK
    if initrd_address + initrd_size > dtb_address:
        needed = (initrd_address + initrd_size + DTB_SPACE - RAM_BASE) // MIB + 32
        raise InvalidInput(
            f"kernel and initrd do not fit in {memory // MIB} MiB",
            where="--memory",
            hint=f"ask for {needed}M or more",
        )
    initrd = (initrd_address, initrd_address + initrd_size) if initrd_size else None
    attached = disk.attach(RAM_BASE, kernel_address, pkvm=pkvm) if with_disk else disk.Attachment({}, "")
    dtb = device_tree(
        memory=memory, cpus=cpus, append=f"{append} {attached.append}".strip(), initrd=initrd,
        cpu_model=cpu_model, devices=attached.nodes,
    )  # fmt: skip
    return GuestPlan(
        memory, cpus, kernel_address, initrd_address, initrd_size, dtb_address, dtb,
        first=attached.first, first_address=end - PAGE,
    )  # fmt: skip


def cells(*values: int) -> list[int]:
    """64-bit values as pairs of 32-bit cells, as properties hold them."""
    return [half for value in values for half in (value >> 32, value & 0xFFFF_FFFF)]


def device_tree(
    *,
    memory: int,
    cpus: int,
    append: str,
    initrd: tuple[int, int] | None,
    cpu_model: str = "neoverse-n1",
    devices: dict[str, Node] | None = None,
) -> bytes:
    """The flattened device tree; `initrd` is (first byte, last byte + 1) in the guest's address space.

    `devices` are nodes beside those that every guest has.
    """
    chosen: Node = {"stdout-path": f"/pl011@{UART[0]:x}"}
    if append:
        chosen["bootargs"] = append
    if initrd:
        chosen |= {"linux,initrd-start": cells(initrd[0]), "linux,initrd-end": cells(initrd[1])}
    root: Node = {
        "#address-cells": 2,
        "#size-cells": 2,
        "compatible": "linux,dummy-virt",
        "model": "Bulkhead VM",
    }
    return _flatten(
        {
            "/": {**root, "interrupt-parent": GIC_PHANDLE},
            "/chosen": chosen,
            f"/memory@{RAM_BASE:x}": {"device_type": "memory", "reg": cells(RAM_BASE, memory)},
            **_cpu_nodes(cpus, cpu_model),
            **_device_nodes(cpus),
            **(devices or {}),
        }
    )


def _cpu_nodes(cpus: int, cpu_model: str) -> dict[str, Node]:
    compatible = ["arm,armv8"] if cpu_model == "max" else [f"arm,{cpu_model}", "arm,armv8"]
    nodes: dict[str, Node] = {
        "/cpus": {"#address-cells": 1, "#size-cells": 0},
        "/psci": {"compatible": ["arm,psci-1.0", "arm,psci-0.2"], "method": "hvc"},
    }
    for index in range(cpus):
        cpu = {"device_type": "cpu", "compatible": compatible, "reg": index, "enable-method": "psci"}
        nodes[f"/cpus/cpu@{index:x}"] = cpu
    return nodes


def _device_nodes(cpus: int) -> dict[str, Node]:
    timer = [cell for ppi in TIMER_PPIS for cell in (1, ppi, LEVEL_HIGH)]
    gic: Node = {
        "compatible": "arm,gic-v3",
        "reg": cells(*GICD, GICR[0], GICR[1] * cpus),
        "phandle": GIC_PHANDLE,
    }
    gic |= {"#interrupt-cells": 3, "#address-cells": 2, "#size-cells": 2}
    gic |= {"ranges": None, "interrupt-controller": None}
    clock = {
        "compatible": "fixed-clock",
        "#clock-cells": 0,
        "clock-frequency": UART_CLOCK,
        "phandle": CLOCK_PHANDLE,
    }
    uart: Node = {"compatible": ["arm,pl011", "arm,primecell"], "reg": cells(*UART)}
    uart |= {"interrupts": [0, UART_SPI, LEVEL_HIGH]}
    uart |= {"clocks": [CLOCK_PHANDLE, CLOCK_PHANDLE], "clock-names": ["uartclk", "apb_pclk"]}
    return {
        "/timer": {"compatible": "arm,armv8-timer", "always-on": None, "interrupts": timer},
        f"/intc@{GICD[0]:x}": gic,
        "/apb-pclk": clock,
        f"/pl011@{UART[0]:x}": uart,
    }


def _flatten(nodes: dict[str, Node]) -> bytes:
    tree = fdt.FDT()
    tree.header.version, tree.header.last_comp_version, tree.header.boot_cpuid_phys = 17, 16, 0
    for path, properties in nodes.items():
        for name, value in properties.items():
            if value is None:
                node = tree.get_node(path, create=True)
                node.append(fdt.Property(name))
            else:
                tree.set_property(name, value, path)
    return bytes(tree.to_dtb())
