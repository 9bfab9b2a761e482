"""Where a firmware guest's parts lie, the devices that its device tree names, and when its prompt has appeared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fdt
import pytest

from bulkhead.errors import InvalidInput
from bulkhead.machine.firmware import CODE_MAX, PAYLOAD, plan_firmware, read_firmware
from bulkhead.machine.firmware_session import listens
from bulkhead.machine.guest import MIB, RAM_BASE, GuestPlan
from bulkhead.machine.kernel import Kernel
from bulkhead.machine.options import RunOptions

BRANCH = bytes.fromhex("00040014")  # b .+0x1000


def plan(size: int = 3 * MIB, **changed: Any) -> GuestPlan:
    given: dict[str, Any] = {"memory": 256 * MIB, "cpus": 2}
    firmware = Kernel(Path("firmware.fd"), BRANCH + bytes(size - 4), 0, size, flat=True)
    return plan_firmware(firmware, **{**given, **changed})


def test_code_is_ram_at_address_0_in_whole_blocks_and_the_device_tree_at_the_start_of_ram() -> None:
    got = plan().link_arguments()
    assert got["ram"] == [[0, 4 * MIB], [RAM_BASE, 256 * MIB]]
    assert (got["entry"], got["kernel_address"], got["dtb_address"]) == (0, 0, RAM_BASE)


def test_code_ends_where_the_flash_begins() -> None:
    parsed = fdt.parse_dtb(plan(CODE_MAX).dtb)
    assert plan(CODE_MAX).code == list(parsed.get_property("reg", "/flash@4000000").data)[1] == CODE_MAX


def test_the_device_tree_names_flash_clock_and_configuration_without_dma() -> None:
    parsed = fdt.parse_dtb(plan().dtb)
    reg = {
        node.name: list(node.get_property("reg").data)
        for node in parsed.root.nodes
        if node.exist_property("reg")
    }
    assert reg["flash@4000000"] == [0, 0x400_0000, 0, MIB]
    assert reg["pl031@9010000"] == [0, 0x901_0000, 0, 0x1000]
    assert reg["fw-cfg@9020000"] == [0, 0x902_0000, 0, 0xA], "no room for the DMA register at 0x10"
    assert parsed.get_property("compatible", "/flash@4000000").value == "cfi-flash"
    assert not parsed.exist_property("bootargs", "/chosen")


def test_a_payload_leaves_the_firmware_room_to_move_to() -> None:
    assert (plan(payload=128 * MIB).initrd_address, plan(payload=128 * MIB).initrd_size) == (
        PAYLOAD,
        128 * MIB,
    )
    with pytest.raises(InvalidInput, match="--memory"):
        plan(payload=128 * MIB + 1)


@pytest.mark.parametrize("memory", [0, 16 * MIB, 126 * MIB, 128 * MIB + 4096])
def test_memory_that_firmware_cannot_do_with_is_refused(memory: int) -> None:
    with pytest.raises(InvalidInput, match="--memory"):
        plan(memory=memory)


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "own.fd"
    path.write_bytes(BRANCH + b"more")
    got = read_firmware(str(path))
    assert (got.content, got.text_offset, got.flat) == (BRANCH + b"more", 0, True)


def test_a_payload_needs_firmware() -> None:
    with pytest.raises(InvalidInput, match="--payload"):
        RunOptions(payload=Path("file"))


@pytest.mark.parametrize(
    ("output", "sent", "expected"),
    [
        (b"banner\r\n=> ", 0, True),
        (b"banner\r\n=> version\r\nU-Boot\r\n=> ", 11, True),
        (b"banner\r\n=> version", 11, False),
        (b"banner\r\n=> ", 11, False),
        (b"map\r\n\x1b[06;01H\x1b[1m\x1b[33m\x1b[40mShell> \x1b[0m\x1b[37m\x1b[40m", 0, True),
        (b"map\r\n\x1b[06;01HShell> \x1b[0m\x1b[37m\x1b[40m\x1b[06;08Hv", 0, False),
        (b"fs0:\r\nFS0:\\efi\\> \x1b[0m", 0, True),
        (b"Press ESC in 5 seconds to skip startup.nsh or any other key to continue.", 0, False),
        (b"", 0, False),
    ],
)
def test_a_prompt_counts_if_it_ends_the_output_and_is_new(output: bytes, sent: int, expected: bool) -> None:
    assert listens(output, sent) is expected
