"""A guest's firmware: UEFI or U-Boot in place of a kernel, and the platform that it finds.

Trust label: TOOL. The platform is QEMU's machine `virt` as far as its firmware needs it: code at address 0 (pages of
the VM, measured), NOR flash for variables, `fw_cfg` without DMA, PL031, the device tree at RAM's start. Sources: QEMU
docs/system/arm/virt.rst and docs/specs/fw_cfg.rst; Linux Documentation/devicetree/bindings (mtd-physmap,
qemu,fw-cfg-mmio, arm,pl031); UEFI Platform Initialization 1.7, volume 3, 3.2.1 (firmware volume header).
"""

from __future__ import annotations

from pathlib import Path

from bulkhead.errors import InvalidInput
from bulkhead.machine.guest import (
    BLOCK,
    CLOCK_PHANDLE,
    MIB,
    RAM_BASE,
    GuestPlan,
    Node,
    cells,
    check_size,
    device_tree,
)
from bulkhead.machine.kernel import Kernel, read_file
from bulkhead.provision import guests

CODE_MAX = 64 * MIB
VARIABLES = (0x0400_0000, MIB)
CLOCK = (0x0901_0000, 0x1000)
CONFIGURATION = (0x0902_0000, 0xA)  # data and selector; with the DMA register behind them it would be 0x18
PAYLOAD = RAM_BASE + 64 * MIB  # between what UEFI uses first and what U-Boot relocates itself to
HEADROOM = 64 * MIB  # above the payload, for firmware that relocates itself to RAM's end
MIN_MEMORY = 128 * MIB  # what UEFI maps of RAM before it has read the device tree

_KERNEL_MAGIC = (56, b"ARM\x64")
_NOT_AT_RESET = ((b"\x7fELF", "an ELF file"), (b"MZ", "an EFI program"), (b"\x1f\x8b", "compressed with gzip"),
                 (b"\xfd7zXZ", "compressed with xz"), (b"QFI\xfb", "a qcow2 disk image"))  # fmt: skip


def read_firmware(choice: str) -> Kernel:
    """The firmware `uefi` or `u-boot` (pinned packages) or a file, as a flat binary that starts at its first byte.

    InvalidInput for what no AArch64 processor can start from at reset.
    """
    path = guests.ensure_firmware(choice) if choice in guests.FIRMWARE else Path(choice).expanduser()
    content = read_file(path, "firmware")
    if len(content) > CODE_MAX:
        raise InvalidInput(
            f"this firmware is too large: {len(content)} bytes", where=path,
            hint=f"the flash for code holds {CODE_MAX // MIB} MiB",
        )  # fmt: skip
    if what := _diagnose(content):
        raise InvalidInput(
            f"this is no firmware: {what}", where=path,
            hint="give --firmware uefi, u-boot, or the raw image for QEMU's machine virt (QEMU_EFI.fd, u-boot.bin)",
        )  # fmt: skip
    return Kernel(path, content, 0, len(content), flat=True)


def _diagnose(content: bytes) -> str:
    """What the file is, if it cannot be what runs at reset; else nothing."""
    offset, magic = _KERNEL_MAGIC
    if content[offset : offset + len(magic)] == magic:
        return "it is a Linux kernel, which --kernel takes"
    for head, what in _NOT_AT_RESET:
        if content.startswith(head):
            return f"it is {what}"
    # Arm ARM DDI 0487, C4.1: the encodings whose bits 28:25 are 0000, 0001 or 0011 are no A64 instructions (or SME's).
    word = int.from_bytes(content[:4], "little")
    if len(content) < 4 or word >> 25 & 0xF in (0b0000, 0b0001, 0b0011):
        return "it does not start with an instruction"
    return ""


def plan_firmware(
    firmware: Kernel, *, memory: int, cpus: int, cpu_model: str = "neoverse-n1", payload: int = 0
) -> GuestPlan:
    """Place firmware and device tree, and `payload` bytes at PAYLOAD. InvalidInput if no VM can be so."""
    check_size(memory, cpus)
    if memory < MIN_MEMORY:
        raise InvalidInput(
            f"{memory // MIB} MiB of memory", where="--memory",
            hint=f"firmware needs {MIN_MEMORY // MIB}M or more",
        )  # fmt: skip
    if payload and PAYLOAD + payload + HEADROOM > RAM_BASE + memory:
        needed = -(-(PAYLOAD + payload + HEADROOM - RAM_BASE) // BLOCK) * BLOCK
        raise InvalidInput(
            f"a payload of {payload} bytes does not fit in {memory // MIB} MiB", where="--memory",
            hint=f"ask for {needed // MIB}M or more",
        )  # fmt: skip
    code = -(-len(firmware.content) // BLOCK) * BLOCK
    dtb = device_tree(
        memory=memory, cpus=cpus, append="", initrd=None, cpu_model=cpu_model, devices=device_nodes()
    )
    return GuestPlan(memory, cpus, 0, PAYLOAD, payload, RAM_BASE, dtb, code=code)


def device_nodes() -> dict[str, Node]:
    """The devices beside those that every guest has. The code is no device: firmware does not write to it."""
    flash: Node = {"compatible": "cfi-flash", "reg": cells(*VARIABLES), "bank-width": 4}
    clock: Node = {"compatible": ["arm,pl031", "arm,primecell"], "reg": cells(*CLOCK)}
    clock |= {"clocks": [CLOCK_PHANDLE], "clock-names": "apb_pclk"}
    configuration: Node = {"compatible": "qemu,fw-cfg-mmio", "reg": cells(*CONFIGURATION)}
    return {
        f"/flash@{VARIABLES[0]:x}": flash,
        f"/pl031@{CLOCK[0]:x}": clock,
        f"/fw-cfg@{CONFIGURATION[0]:x}": configuration,
    }
