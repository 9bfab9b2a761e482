"""The device tree that a guest gets, where its parts are placed, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import fdt
import pytest

from bulkhead.errors import InvalidInput
from bulkhead.machine import disk
from bulkhead.machine.guest import MAX_CPUS, MIB, RAM_BASE, GuestPlan, device_tree, plan_guest
from bulkhead.machine.kernel import Kernel, read_kernel


def tree(**changed: Any) -> Any:
    given: dict[str, Any] = {"memory": 512 * MIB, "cpus": 2, "append": "console=ttyAMA0", "initrd": None}
    return fdt.parse_dtb(device_tree(**{**given, **changed}))


def cells(parsed: Any, path: str, name: str) -> list[int]:
    return list(parsed.get_property(name, path).data)


def test_memory_and_initrd_are_64_bit() -> None:
    parsed = tree(memory=6 << 30, initrd=(0x1_4000_0000, 0x1_4000_1234))
    assert cells(parsed, "/memory@40000000", "reg") == [0, RAM_BASE, 1, 0x8000_0000]
    assert cells(parsed, "/chosen", "linux,initrd-start") == [1, 0x4000_0000]
    assert cells(parsed, "/chosen", "linux,initrd-end") == [1, 0x4000_1234]


def test_chosen_names_the_console_and_the_command_line() -> None:
    parsed = tree(append="console=ttyAMA0 quiet")
    assert list(parsed.get_property("bootargs", "/chosen")) == ["console=ttyAMA0 quiet"]
    assert list(parsed.get_property("stdout-path", "/chosen")) == ["/pl011@9000000"]
    assert not parsed.exist_property("linux,initrd-start", "/chosen")


@pytest.mark.parametrize("cpus", [1, 2, MAX_CPUS])
def test_one_cpu_node_and_one_redistributor_for_each_vcpu(cpus: int) -> None:
    parsed = tree(cpus=cpus)
    nodes = [node for node in parsed.get_node("/cpus").nodes if node.name.startswith("cpu@")]
    assert [node.get_property("reg").value for node in nodes] == list(range(cpus))
    assert all(list(node.get_property("enable-method")) == ["psci"] for node in nodes)
    assert cells(parsed, "/intc@8000000", "reg") == [
        0,
        0x800_0000,
        0,
        0x1_0000,
        0,
        0x80A_0000,
        0,
        cpus * 0x2_0000,
    ]


def test_psci_by_hvc_timer_and_uart_interrupts() -> None:
    parsed = tree()
    assert list(parsed.get_property("method", "/psci")) == ["hvc"]
    assert cells(parsed, "/timer", "interrupts")[6:9] == [1, 11, 4]  # virtual timer: PPI 27 = 16 + 11
    assert cells(parsed, "/pl011@9000000", "interrupts") == [0, 1, 4]  # SPI 1 = INTID 33


def kernel(size: int = 30 * MIB, text_offset: int = 0) -> Kernel:
    return Kernel(Path("Image"), b"K" * 4096, text_offset, size)


def plan(**changed: Any) -> GuestPlan:
    given: dict[str, Any] = {
        "kernel": kernel(),
        "initrd_size": 0,
        "memory": 512 * MIB,
        "cpus": 2,
        "append": "",
    }
    return plan_guest(**{**given, **changed})


def test_parts_do_not_overlap_and_stay_in_memory() -> None:
    got = plan(initrd_size=5 * MIB + 1)
    parts = [
        (got.kernel_address, 30 * MIB),
        (got.initrd_address, 5 * MIB + 1),
        (got.dtb_address, len(got.dtb)),
    ]
    for (start, size), (following, _) in zip(parts, [*parts[1:], (RAM_BASE + 512 * MIB, 0)], strict=True):
        assert start >= RAM_BASE
        assert start + size <= following


def test_text_offset_counts_from_a_2_mib_boundary() -> None:
    assert plan(kernel=kernel(text_offset=0x8_0000)).kernel_address == RAM_BASE + 0x8_0000


def test_arguments_for_the_hypervisor() -> None:
    got = plan().link_arguments()
    assert got["ram"] == [[RAM_BASE, 512 * MIB]]
    assert got["entry"] == got["kernel_address"]
    assert got["dtb"][:4] == bytes.fromhex("d00dfeed")


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"cpus": 0}, "--cpus"),
        ({"cpus": MAX_CPUS + 1}, "--cpus"),
        ({"memory": 0}, "--memory"),
        ({"memory": 512 * MIB + 4096}, "--memory"),
        ({"memory": 600 << 30}, "--memory"),
        ({"memory": 30 * MIB}, "--memory"),
        ({"memory": 64 * MIB, "initrd_size": 40 * MIB}, "--memory"),
        ({"load_address": 0x1000}, "--load-address"),
        ({"load_address": RAM_BASE + 1}, "--load-address"),
        ({"load_address": RAM_BASE + 512 * MIB}, "--load-address"),
    ],
)
def test_what_cannot_be_is_refused_and_names_its_option(changed: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        plan(**changed)
    assert caught.value.where == where
    assert caught.value.hint


def image(flags: int = 0b1010, size: int = 0x10000, text_offset: int = 0) -> bytes:
    return struct.pack("<IIQQQQQQ4sI", 0, 0, text_offset, size, flags, 0, 0, 0, b"ARM\x64", 0).ljust(
        4096, b"\0"
    )


def test_a_kernel_is_read(tmp_path: Path) -> None:
    path = tmp_path / "Image"
    path.write_bytes(image(size=0x30000))
    assert read_kernel(path).image_size == 0x30000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such|does not exist"),
        (b"", "empty"),
        (b"\x1f\x8b" + bytes(100), "gzip"),
        (b"MZ\0\0zimg" + bytes(100), "zboot"),
        (b"MZ".ljust(0x202, b"\0") + b"HdrS" + bytes(100), "x86"),
        (b"nothing of the kind" * 10, "magic"),
        (image(flags=1), "big-endian"),
        (image(flags=0b110), "64 KiB"),
        (image(size=0), "no sense"),
    ],
)
def test_files_that_are_no_kernel(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "Image"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInput, match=words) as caught:
        read_kernel(path)
    assert caught.value.hint


def test_flat_binaries_need_no_header(tmp_path: Path) -> None:
    path = tmp_path / "flat"
    path.write_bytes(b"\x1f\x8b anything")
    assert read_kernel(path, flat=True).flat


def test_a_guest_with_a_disk_has_its_pool_first_and_shares_it_before_its_kernel_runs() -> None:
    kernel = Kernel(Path("kernel"), bytes(100), 0, 4 * MIB)
    got = plan_guest(kernel, 1, memory=64 * MIB, cpus=1, append="quiet", with_disk=True)
    assert got.kernel_address == RAM_BASE + disk.POOL_SIZE
    arguments = got.link_arguments()
    assert arguments["entry"] == arguments["first_address"] != got.kernel_address
    assert arguments["first_address"] % 4096 == 0
    literals = struct.unpack_from("<3Q", arguments["first"], 4 * 24)
    assert literals == (RAM_BASE, RAM_BASE + disk.POOL_SIZE, got.kernel_address)
    parsed = fdt.parse_dtb(got.dtb)
    assert cells(parsed, "/shared", "dma-ranges") == [0, RAM_BASE, 0, RAM_BASE, 0, disk.POOL_SIZE]
    assert "sysctl.vm.lowmem_reserve_ratio=1" in parsed.get_property("bootargs", "/chosen").value


def test_a_kernel_that_shares_itself_has_its_pool_reserved_and_nothing_before_it() -> None:
    kernel = Kernel(Path("kernel"), bytes(100), 0, 4 * MIB)
    got = plan_guest(kernel, 1, memory=64 * MIB, cpus=1, append="quiet", with_disk=True, pkvm=True)
    assert got.link_arguments()["entry"] == got.kernel_address == RAM_BASE + disk.POOL_SIZE
    assert "first" not in got.link_arguments()
    parsed = fdt.parse_dtb(got.dtb)
    pool, device = f"/reserved-memory/pool@{RAM_BASE:x}", f"/virtio_mmio@{disk.REGISTERS[0]:x}"
    assert parsed.get_property("compatible", pool).value == "restricted-dma-pool"
    assert cells(parsed, pool, "reg") == [0, RAM_BASE, 0, disk.POOL_SIZE]
    assert cells(parsed, device, "memory-region") == cells(parsed, pool, "phandle")
    assert not parsed.exist_node("/shared")


def test_a_guest_without_a_disk_has_neither_pool_nor_device() -> None:
    kernel = Kernel(Path("kernel"), bytes(100), 0, 4 * MIB)
    got = plan_guest(kernel, 1, memory=64 * MIB, cpus=1, append="quiet")
    assert got.kernel_address == got.link_arguments()["entry"] == RAM_BASE
    assert "first" not in got.link_arguments()
    assert not fdt.parse_dtb(got.dtb).exist_node("/shared")
