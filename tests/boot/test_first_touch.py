"""RAM that was there before the boot: the host's first touch of a block finds zeros, however many CPUs come at once."""

from __future__ import annotations

import os
import struct

import pytest

from boot import machines
from boot.assembly import assemble
from boot.machines import Booted
from boot.test_instructions import CPU, execute
from bulkhead.image.variant import Edit, build_variant
from bulkhead.inspect.engine import stopped_view
from bulkhead.inspect.ram import RamSnapshot
from bulkhead.inspect.records import Kind
from bulkhead.machine.qemu import KERNEL_ADDRESS, MIB, RAM_BASE, QemuConfig, QemuMachine

pytestmark = pytest.mark.qemu

BLOCK, PAGE = 2 * MIB, 4096
MEMORY = 256 * MIB
MASK = (1 << 64) - 1
TREE = RAM_BASE + MEMORY // 2
LEAST, MOST = 100_000, 250_000
"""Instructions of a first touch, from the access to the next instruction: one stay at EL2."""
REMOVED = [
    Edit("engine/core/src/call/mod.rs", "hw.zero_block(block);", ""),
    Edit("engine/image/src/host_stage2.rs", "memory::zero_gaps(plan.block(block), kept);", ""),
]
"""What keeps the content of before the boot from the host: in blocks touched first, and beside what boot left there."""
HEAD, FILL = b"a page o", b"f others"
"""The first word of each page of before the boot, and all its other words."""
# Every CPU goes through the host's RAM, block by block and together: x9 counts words of before the boot. At
# `table`: CPUs that have come, number of CPUs, results of each CPU, then (base, end) of each range, ended by zeros.
SCAN = f"""
    stp x29, x30, [sp, #-16]!
    mrs x8, mpidr_el1
    and x8, x8, #7
    ldr x0, ={{table:#x}}
    add x1, x0, #128
    mov x9, xzr
    mov x10, xzr
    ldr x13, ={~int.from_bytes(HEAD, "little") & MASK:#x}
    ldr x14, ={~int.from_bytes(FILL, "little") & MASK:#x}
    mvn x13, x13
    mvn x14, x14
1:  ldp x2, x3, [x1], #16
    cbz x3, 9f
2:  mov x5, #1
    ldr x6, [x0, #8]
    add x10, x10, x6
    ldaddal x5, x5, [x0]
3:  ldar x5, [x0]
    cmp x5, x10
    b.lo 3b
    mov x4, #{BLOCK:#x}
    add x4, x4, x2
    cmp x4, x3
    csel x4, x4, x3, lo
4:  ldr x5, [x2], #8
    cmp x5, x13
    ccmp x5, x14, #4, ne
    cinc x9, x9, eq
    cmp x2, x4
    b.lo 4b
    cmp x2, x3
    b.lo 2b
    b 1b
9:  mov x5, #1
    orr x9, x9, x5, lsl #63
    add x0, x0, #16
    str x9, [x0, x8, lsl #3]
    ldp x29, x30, [sp], #16
    ret
"""


def spoil(machine: QemuMachine) -> None:
    """Fills all RAM of a halted machine but what the boot loader has put there."""
    length = machine.config.kernel.stat().st_size
    taken = [
        (KERNEL_ADDRESS, KERNEL_ADDRESS + length),
        (TREE, TREE + MIB),  # QEMU's trees have this length
    ]
    page = HEAD + FILL * (PAGE // 8 - 1)
    for address in range(RAM_BASE, RAM_BASE + MEMORY, PAGE):
        inside = any(base - PAGE < address < end for base, end in taken)
        if not inside and not any(os.pread(machine.ram, PAGE, address - RAM_BASE)):
            os.pwrite(machine.ram, page, address - RAM_BASE)


def scan(booted: Booted, cpus: int) -> list[int]:
    """Words of before the boot that each CPU has seen in all of the host's RAM."""
    table, program = booted.boot_info.split_block[0] + PAGE, booted.boot_info.split_block[0] + 2 * PAGE
    split = booted.boot_info.split_block[0]
    ranges = [split + PAGE, split + BLOCK]  # its first frame is its table, out of reach
    for base, size in booted.boot_info.host_ram:
        for low, high in ((base, min(base + size, split)), (max(base, split + BLOCK), base + size)):
            ranges += [low, high] if low < high else []
    booted.write(
        table, struct.pack("<2Q", 0, cpus).ljust(128, b"\0") + struct.pack(f"<{len(ranges)}Q", *ranges)
    )
    booted.write(program, assemble(SCAN.replace("{table:#x}", hex(table))))
    for cpu in range(1, cpus):
        booted.link.call("cpu_on", {"cpu": cpu})
        booted.link.call("begin", {"cpu": cpu, "address": program})
    booted.execute(program)
    for cpu in range(1, cpus):
        booted.link.call("finish", {"cpu": cpu})
    results = struct.unpack(f"<{cpus}Q", booted.read(table + 16, 8 * cpus))
    assert all(result >> 63 for result in results), "every CPU came to the end"
    return [result & (1 << 63) - 1 for result in results]


@pytest.mark.parametrize(
    ("cpus", "model"), [(1, "neoverse-n1"), (4, "neoverse-v1"), (2, "neoverse-n2"), (8, "max")]
)
def test_nothing_of_before_the_boot_is_seen(cpus: int, model: str) -> None:
    config = QemuConfig(kernel=machines.image(), cpus=cpus, memory=MEMORY, cpu_model=model)
    with machines.boot(config, before=spoil) as booted:
        ram = RamSnapshot(booted.machine.ram, RAM_BASE, MEMORY)
        with stopped_view(booted.machine, booted.symbols) as view:
            blocks = {place // BLOCK * BLOCK for place in ram.find(HEAD)}
            kinds = {view.owner(block).kind for block in blocks}
            assert len(blocks) > 100
            assert kinds <= {Kind.UNCLEARED, Kind.ENGINE}
            reached = {one.output // BLOCK * BLOCK for one in view.host_mappings()}
            assert blocks.isdisjoint(reached)
        assert scan(booted, cpus) == [0] * cpus
        with stopped_view(booted.machine, booted.symbols) as view:
            kinds = {view.owner(block).kind for block in range(RAM_BASE, RAM_BASE + MEMORY, BLOCK)}
            assert Kind.UNCLEARED not in kinds
            left = {view.owner(place).kind for word in (HEAD, FILL) for place in ram.find(word)}
            assert left <= {Kind.ENGINE}


@pytest.mark.parametrize("removed", REMOVED, ids=lambda edit: edit.old)
def test_without_zeroing_it_is_seen(removed: Edit) -> None:
    config = QemuConfig(kernel=build_variant([removed]).image, cpus=1, memory=MEMORY)
    with machines.boot(config, before=spoil) as booted:
        assert scan(booted, 1)[0] > 0


def test_how_long_a_first_touch_takes() -> None:
    with machines.boot(QemuConfig(kernel=machines.image(), icount=True, cpu_model=CPU, cpus=1)) as booted:
        booted.next_frame = booted.boot_info.split_block[0] + PAGE
        place = booted.boot_info.host_ram[-1][0] + booted.boot_info.host_ram[-1][1] - 8
        access = f"""
            ldr x2, ={place:#x}
            isb
            mrs x10, cntpct_el0
            ldr x3, [x2]
            isb
            mrs x11, cntpct_el0
            sub x1, x11, x10
        """
        count, again = execute(booted, access), execute(booted, access)
        print(f"a first touch takes {count} instructions")
        assert again < 10
        assert LEAST < count < MOST
