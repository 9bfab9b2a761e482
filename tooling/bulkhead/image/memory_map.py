"""The memory map: every address that the engine, its linker script and the tools agree on.

Trust label: TOOL; what it generates is reviewed like source. ``python -m bulkhead.image.memory_map`` writes
``engine/image/link.ld``, ``engine/arch/src/layout.rs`` and ``engine/image/src/platform.rs``; a test refuses stale ones.
Sources: Arm ARM DDI 0487 D8 (translation), Linux `Documentation/arch/arm64/booting.rst` (Image header), QEMU
`hw/arm/virt.c` (`base_memmap`) for the devices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
NOTICE = "Generated from tooling/bulkhead/image/memory_map.py by `python -m bulkhead.image.memory_map`; do not edit."

PAGE = 0x1000
BLOCK = 0x20_0000
GIB = 1 << 30
HEADER_SIZE = 64
"""Bytes of the arm64 Image header."""


@dataclass(frozen=True)
class Window:
    """A range of EL2 virtual addresses with one purpose. `size` in bytes."""

    name: str
    base: int
    size: int
    doc: str


# fmt: off
WINDOWS = (
    Window("RAM", 0x4000_0000_0000, 1 << 46, "RAM that is not the engine's: RAM + PA, read-write, never executable"),
    Window("IMAGE", 0x8000_0000_0000, BLOCK, "the engine image: text RX, rodata R, data and bss RW"),
    Window("BLOCKS", 0x9000_0000_0000, 4 << 20, "block records: u64[blocks]"),
    Window("FRAMES", 0x9100_0000_0000, 2 << 30, "frame records: u64[frames]"),
    Window("HOST_L2", 0x9200_0000_0000, 4 << 20, "level 2 entries of the host's stage 2: u64[blocks]"),
    Window("DMA_L2", 0x9300_0000_0000, 4 << 20, "level 2 entries of the devices' stage 2 in the SMMU: u64[blocks]"),
    Window("DEVICE", 0xA000_0000_0000, 1 << 40, "the engine's devices: DEVICE + PA, Device-nGnRE, never executable"),
    Window("PERCPU", 0xB000_0000_0000, 8 * 0x1_0000, "one area for each CPU: stacks between guards, host context"),
)
# fmt: on

CPUS_MAX = 8
PHYSICAL_BITS = 46
FRAMES_MAX = 1 << 28


@dataclass(frozen=True)
class Area:
    """A mapped part of each CPU's area in PERCPU; the pages between are guards and stay unmapped."""

    name: str
    offset: int
    size: int
    doc: str


PERCPU_STRIDE = 0x1_0000
PERCPU_AREAS = (
    Area("EMERGENCY_STACK", 0x1000, 0x2000, "stack of the panic dump"),
    Area("STACK", 0x7000, 0x8000, "stack; it ends where the host context begins"),
    Area("CONTEXT", 0xF000, 0x1000, "the host's registers; TPIDR_EL2 points here"),
)


class Use(Enum):
    """Who reaches a device page."""

    ENGINE = "engine"
    HOST = "host"
    BOTH = "engine and host"
    WITHHELD = "nobody"
    PCI = "host, if a listed PCIe function sits behind the SMMU"


@dataclass(frozen=True)
class Device:
    """A range of device addresses of a platform. `count` frames `stride` bytes apart, one for each CPU, if stride."""

    name: str
    base: int
    size: int
    use: Use
    why: str
    stride: int = 0


# fmt: off
VIRT = (
    Device("FLASH", 0x0000_0000, 0x0800_0000, Use.WITHHELD, "firmware code and variables outlive a boot"),
    Device("GICD", 0x0800_0000, 0x1_0000, Use.BOTH, "the host routes its own interrupts; holds no addresses"),
    Device("GIC_ITS", 0x0808_0000, 0x1000, Use.ENGINE, "off: its commands and tables write to any RAM"),
    Device("GIC_ITS_REST", 0x0808_1000, 0x1_F000, Use.WITHHELD, "messages of devices; the ITS is off"),
    Device("GICR_RD", 0x080A_0000, 0x1_0000, Use.ENGINE, "it holds the addresses of tables in RAM", stride=0x2_0000),
    Device("GICR_SGI", 0x080B_0000, 0x1000, Use.BOTH, "SGI and PPI enables of one CPU", stride=0x2_0000),
    Device("UART0", 0x0900_0000, 0x1000, Use.ENGINE, "panic dump and boot messages"),
    Device("RTC", 0x0901_0000, 0x1000, Use.WITHHELD, "not needed"),
    Device("FW_CFG", 0x0902_0000, 0x1000, Use.WITHHELD, "its DMA register writes to any RAM"),
    Device("GPIO", 0x0903_0000, 0x1000, Use.WITHHELD, "power button; not needed"),
    Device("UART1", 0x0904_0000, 0x1000, Use.HOST, "management channel (PL011, no DMA)"),
    Device("SMMU", 0x0905_0000, 0x1000, Use.ENGINE, "decides which RAM each bus master reaches; page 0 only"),
    Device("SMMU_REST", 0x0905_1000, 0x1_F000, Use.WITHHELD, "the SMMU's other pages: its event queue is not in use"),
    Device("VIRTIO_MMIO", 0x0A00_0000, 0x4000, Use.ENGINE, "reset: these transports are bus masters outside the SMMU"),
    Device("PLATFORM_BUS", 0x0C00_0000, 0x0200_0000, Use.WITHHELD, "whatever is plugged there is a bus master"),
    Device("PCIE_MMIO", 0x1000_0000, 0x2EE0_0000, Use.PCI, "BARs: only listed functions decode anything there"),
    Device("PCIE_MMIO_END", 0x3EE0_0000, 0x1F_0000, Use.WITHHELD, "less than a block: not needed"),
    Device("PCIE_PIO", 0x3EFF_0000, 0x1_0000, Use.WITHHELD, "not needed"),
    Device("PCIE_ECAM_LOW", 0x3F00_0000, 0x0100_0000, Use.WITHHELD, "the other place of configuration space"),
    Device("PCIE_ECAM", 0x40_1000_0000, 0x1000_0000, Use.ENGINE, "enables bus masters; listed functions have a page"),
    Device("PCIE_MMIO_HIGH", 0x80_0000_0000, 0x80_0000_0000, Use.WITHHELD, "not needed"),
)
# fmt: on
"""The allow-list of QEMU's `virt`: what is not listed here as engine's or host's is mapped to nobody."""


@dataclass(frozen=True)
class PciFunction:
    """A kind of PCIe function that the host may have, by the ids in its configuration space.

    `lasting`: a transfer may go on with a translation that the SMMU has forgotten since, so that the function is
    reset when a window closes; one that cannot be reset (FLR) is not the host's.
    """

    name: str
    vendor: int
    device: int
    why: str
    lasting: bool = False


PCI_FUNCTIONS = (
    PciFunction("EDU", 0x1234, 0x11E8, "QEMU's teaching device: a DMA engine that tests can steer"),
    PciFunction(
        "NVME", 0x1B36, 0x0010, "QEMU's NVMe controller; it keeps addresses while a drive works", True
    ),
)
"""The allow-list of functions: those whose every access to memory the SMMU sees. A virtio function (1af4) must never
be listed: QEMU lets it pass by the SMMU unless it was started with `iommu_platform=on`."""

UART1_INTID = 40
"""Interrupt id of the management UART: SPI 8."""

INTERRUPTS = {"MAINTENANCE_PPI": 25, "VIRTUAL_TIMER_PPI": 27, "PHYSICAL_TIMER_PPI": 30}
"""Private interrupts that the device tree must name as these (Arm BSA, 4.1.4)."""


def device(name: str) -> Device:
    """The device of that name; KeyError if there is none."""
    return {d.name: d for d in VIRT}[name]


def window(name: str) -> Window:
    """The window of that name; KeyError if there is none."""
    return {w.name: w for w in WINDOWS}[name]


def check() -> None:
    """Refuse a map whose windows, areas or devices overlap or are not page aligned (ValueError)."""
    groups: tuple[list[tuple[str, int, int]], ...] = (
        [(w.name, w.base, w.size) for w in WINDOWS],
        [(a.name, a.offset, a.size) for a in PERCPU_AREAS],
        [
            (d.name, d.base + cpu * d.stride, d.size)
            for d in VIRT
            for cpu in range(CPUS_MAX if d.stride else 1)
        ],
    )
    for group in groups:
        end, before = 0, ""
        for name, base, size in sorted(group, key=lambda item: item[1]):
            if base % PAGE or size % PAGE or size <= 0:
                raise ValueError(f"{name} is not made of whole pages")
            if base < end:
                raise ValueError(f"{name} overlaps {before}")
            end, before = base + size, name
    reach = window("DEVICE").size
    if any(d.base + d.size > reach for d in VIRT if d.use in (Use.ENGINE, Use.BOTH)):
        raise ValueError("a device of the engine is out of reach of its window")
    stack, context = PERCPU_AREAS[1], PERCPU_AREAS[2]
    if stack.offset + stack.size != context.offset or context.offset + context.size != PERCPU_STRIDE:
        raise ValueError(
            "the stack must end where the host context begins, and the context where the area ends"
        )


def hexadecimal(value: int) -> str:
    """A Rust literal with groups of four digits: 0x4000_0000."""
    if value == 0:
        return "0"
    digits = f"{value:x}"
    groups: list[str] = []
    while digits:
        groups.insert(0, digits[-4:])
        digits = digits[:-4]
    return "0x" + "_".join(groups)


def _layout() -> Iterator[str]:
    yield f"//! {NOTICE}"
    yield "//!"
    yield "//! Where the engine sees what: the EL2 virtual address space. Trust label: TRUSTED."
    yield ""
    for w in WINDOWS:
        yield f"/// {w.doc[0].upper()}{w.doc[1:]}."
        yield f"pub const {w.name}: u64 = {hexadecimal(w.base)};"
    yield "/// Bytes of the image window: the most that the engine image may take."
    yield f"pub const IMAGE_SIZE: u64 = {hexadecimal(window('IMAGE').size)};"
    yield "/// Bytes from one CPU's area to the next."
    yield f"pub const PERCPU_STRIDE: u64 = {hexadecimal(PERCPU_STRIDE)};"
    for a in PERCPU_AREAS:
        yield f"/// Offset in a CPU's area: {a.doc}."
        yield f"pub const PERCPU_{a.name}: u64 = {hexadecimal(a.offset)};"
        yield f"/// Bytes: {a.doc}."
        yield f"pub const {a.name}_SIZE: u64 = {hexadecimal(a.size)};"
    yield "/// Most CPUs."
    yield f"pub const CPUS_MAX: usize = {CPUS_MAX};"
    yield "/// Bits of a physical address that the RAM window can show."
    yield f"pub const PHYSICAL_BITS: u32 = {PHYSICAL_BITS};"
    yield "/// Most frames between the lowest and the highest RAM address."
    yield f"pub const FRAMES_MAX: u64 = {hexadecimal(FRAMES_MAX)};"
    for d in VIRT:
        if d.use in (Use.ENGINE, Use.BOTH) and d.name != "GICR_SGI":
            name = d.name.removesuffix("_RD")
            each = (
                "redistributors, `GICR_STRIDE` apart, in the order of the CPU indices" if d.stride else name
            )
            yield f"/// Virtual address of {each}."
            yield f"pub const {name}: u64 = {hexadecimal(window('DEVICE').base + d.base)};"
    yield "/// Distance of two redistributors: RD_base and SGI_base frame (IHI 0069 section 12.10)."
    yield f"pub const GICR_STRIDE: u64 = {hexadecimal(device('GICR_RD').stride)};"


def _platform() -> Iterator[str]:
    yield f"//! {NOTICE}"
    yield "//!"
    yield "//! The device pages of the `virt` platform and who reaches them. Trust label: TRUSTED."
    yield "//!"
    yield "//! Withheld from everybody, and why:"
    for d in VIRT:
        if d.use is Use.WITHHELD:
            yield f"//! - {d.name} {d.base:#x}..{d.base + d.size:#x}: {d.why}."
    yield "\n/// A range of device pages."
    yield "pub struct Device {"
    yield "    /// First physical address."
    yield "    pub base: u64,"
    yield "    /// Bytes."
    yield "    pub size: u64,"
    yield "    /// Bytes from one CPU's instance to the next; 0: there is one instance."
    yield "    pub stride: u64,"
    yield "}"
    for d in VIRT:
        if d.use is not Use.WITHHELD:
            yield f"\n/// {d.name}: {d.why}."
            base, size, stride = map(hexadecimal, (d.base, d.size, d.stride))
            yield f"pub const {d.name}: Device = Device {{ base: {base}, size: {size}, stride: {stride} }};"
    for label, uses in (("ENGINE", (Use.ENGINE, Use.BOTH)), ("HOST", (Use.HOST, Use.BOTH))):
        names = [d.name for d in VIRT if d.use in uses]
        yield f"\n/// What the {label.lower()} reaches."
        yield f"pub const {label}_DEVICES: [Device; {len(names)}] = [{', '.join(names)}];"
    yield "\n/// A kind of PCIe function that the host may have."
    yield "pub struct PciFunction {"
    yield "    /// As in configuration space: device << 16 | vendor."
    yield "    pub ids: u32,"
    yield "    /// Whether its transfers may outlast their translation, so that closing a window resets it."
    yield "    pub lasting: bool,"
    yield "}"
    for f in PCI_FUNCTIONS:
        yield f"\n/// {f.name}: {f.why}."
        ids = hexadecimal(f.device << 16 | f.vendor)
        yield f"pub const {f.name}: PciFunction = PciFunction {{ ids: {ids}, lasting: {str(f.lasting).lower()} }};"
    functions = ", ".join(f.name for f in PCI_FUNCTIONS)
    yield "\n/// The allow-list of PCIe functions."
    yield f"pub const PCI_FUNCTIONS: [PciFunction; {len(PCI_FUNCTIONS)}] = [{functions}];"
    yield "\n/// All device addresses of the platform, withheld ones too: base and bytes. No RAM lies there."
    every = [(d.base, d.stride * CPUS_MAX or d.size) for d in VIRT if d.name != "GICR_SGI"]
    yield f"pub const ALL_DEVICES: [(u64, u64); {len(every)}] = ["
    for first, length in every:
        yield f"    ({hexadecimal(first)}, {hexadecimal(length)}),"
    yield "];"
    yield "\n/// Interrupt id of UART1, the management channel."
    yield f"pub const UART1_INTID: u64 = {UART1_INTID};"
    for name, intid in INTERRUPTS.items():
        yield f"\n/// {name.replace('_', ' ').capitalize()}."
        yield f"pub const {name}: u64 = {intid};"


def _linker_script() -> Iterator[str]:
    image = window("IMAGE")
    yield f"/* {NOTICE} */"
    yield "ENTRY(_head)"
    yield "PHDRS"
    yield "{"
    yield "    text PT_LOAD FLAGS(5);"
    yield "    rodata PT_LOAD FLAGS(4);"
    yield "    data PT_LOAD FLAGS(6);"
    yield "}"
    yield "SECTIONS"
    yield "{"
    yield f"    . = {image.base:#x};"
    yield "    __image_start = .;"
    yield "    /* Header and the code that runs before the MMU is on: the one page mapped at its own PA too. */"
    yield "    .head : { KEEP(*(.head)) KEEP(*(.head.text)) __head_end = .; } :text"
    yield "    .text : ALIGN(0x800) { *(.vectors .vectors.*) *(.text .text.*) } :text"
    yield "    . = ALIGN(0x1000);"
    yield "    __text_end = .;"
    yield "    .rodata : { *(.rodata .rodata.*) } :rodata"
    yield "    . = ALIGN(0x1000);"
    yield "    __rodata_end = .;"
    yield "    .data : { *(.data .data.*) } :data"
    yield "    .bss : { *(.bss .bss.*) *(COMMON) . = ALIGN(0x1000); } :data"
    yield "    __image_end = .;"
    yield "    __image_size = __image_end - __image_start;"
    yield "    /DISCARD/ : { *(.comment) *(.eh_frame*) *(.note*) *(.gnu*) *(.ARM.exidx*) }"
    yield f'    ASSERT(__head_end - __image_start <= {PAGE:#x}, "the boot code must fit its page")'
    yield f'    ASSERT(__image_end - __image_start <= {image.size:#x}, "the image must fit its window")'
    yield "}"


def derivations() -> dict[Path, str]:
    """Every generated file: its path and the text that it must have."""
    check()
    return {
        ROOT / "engine/image/link.ld": "\n".join(_linker_script()) + "\n",
        ROOT / "engine/arch/src/layout.rs": "\n".join(_layout()) + "\n",
        ROOT / "engine/image/src/platform.rs": "\n".join(_platform()) + "\n",
    }


def main() -> None:
    """Write every generated file."""
    for path, text in derivations().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
