"""Storms: all CPUs make random calls on the same VMs, frames and blocks at once, and what must hold afterwards.

Trust label: TOOL. The payload makes the calls (`payload/src/storm.rs`); here is the code that its VMs run, and the
judgement: records and tables agree, everything can be taken back, what comes back is zero, no secret is left anywhere.
"""

from __future__ import annotations

import random

from boot.assembly import assemble
from bulkhead.conformance import Machine
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from bulkhead.conformance.backends.qemu import QemuBackend
from bulkhead.conformance.oracle import invariants
from bulkhead.conformance.oracle.snapshot import Snapshot
from bulkhead.conformance.testing.builder import dismantle, owned_frames
from bulkhead.inspect.records import Kind

CPUS = 4
STEPS = 300
"""Of each CPU: a step is a call, the building of a VM, a few turns of a vCPU, ..."""
SECONDS = 300.0
BLOCKS = 6
SECRET = b"\x5e\xc2\xe7storm"
"""What every VM writes wherever it can and keeps in registers; nobody else ever writes it."""
# x20 draws numbers. The page that an access goes to is one of the first eight of one of the four blocks of RAM.
GUEST = f"""
    mov x20, x0
    mov x1, #(3 << 20)
    msr cpacr_el1, x1
    isb
    ldr x21, ={~int.from_bytes(SECRET, "little") & (1 << 64) - 1:#x}
    mvn x21, x21
    fmov d0, x21
1:  ldr x1, =6364136223846793005
    mul x20, x20, x1
    add x20, x20, #1
    lsr x2, x20, #60
    ubfx x3, x20, #40, #3
    lsl x3, x3, #12
    ubfx x4, x20, #44, #2
    add x3, x3, x4, lsl #21
    mov x4, #0x40000000
    add x4, x4, x3
    cmp x2, #9
    b.hi 2f
    str x21, [x4, #0x800]
    b 1b
2:  cmp x2, #10
    b.ne 3f
    wfi
    b 1b
3:  mov x1, x4
    mov x2, xzr
    mov x3, xzr
    ubfx x5, x20, #36, #4
    ldr x0, =0xC6000003
    cmp x5, #8
    b.lo 4f
    ldr x0, =0xC6000004
    cmp x5, #12
    b.lo 4f
    ldr x0, =0xC6000045
    cmp x5, #15
    b.lo 4f
    ldr x0, =0xC4000053
    mov x1, #192
    ubfx x5, x20, #30, #4
    cbnz x5, 4f
    ldr x0, =0x84000008
4:  hvc #0
    b 1b
"""


class Storms:
    """A machine for storms."""

    def __init__(self, backend: QemuBackend) -> None:
        """Uses the split block and the six highest whole blocks of the host."""
        self.backend = backend
        self.machine = Machine(backend)
        (self.split,) = self.machine.blocks(Kind.SPLIT)
        self.block = self.machine.blocks(Kind.HOST)[-1] - (BLOCKS - 1) * BLOCK
        assert set(range(self.block, self.block + BLOCKS * BLOCK, BLOCK)) <= set(
            self.machine.blocks(Kind.HOST)
        )
        self.code = self.split + PAGE
        backend.write(self.code, assemble(GUEST).ljust(PAGE, b"\0"))

    def run(self, seed: int) -> dict[str, int]:
        """One storm and the judgement; counts of what happened in it."""
        counts = self.backend.storm(
            timeout=SECONDS,
            seed=random.Random(seed).getrandbits(63),
            steps=STEPS,
            frame=self.code + PAGE,
            frames=BLOCK // PAGE - 2,
            block=self.block,
            blocks=BLOCKS,
            code=self.code,
        )
        self.judge()
        return counts

    def judge(self) -> None:
        """What holds after any storm."""
        machine = self.machine
        invariants.check(Snapshot.take(machine))
        owned, blocks = owned_frames(machine), machine.blocks(Kind.VM_PAGE)
        dismantle(machine)
        invariants.check(Snapshot.take(machine))
        left = [machine.vm_word(slot, 0) for slot in range(64)]
        assert not any(left), "every VM slot is free"
        assert owned_frames(machine) == []
        assert machine.blocks(Kind.VM_PAGE) == []
        for address, size in [(frame, PAGE) for frame in owned] + [(block, BLOCK) for block in blocks]:
            assert not any(self.backend.physical(address, size)), f"{address:#x} came back with contents"
        places = {hex(place): self.owner(place) for place in self.backend.find(SECRET)}
        left_behind = {place: owner for place, owner in places.items() if owner != Kind.ENGINE.name}
        assert left_behind == {}, f"a VM's secret is left in RAM: {left_behind}"

    def owner(self, address: int) -> str:
        """What the records say of an address."""
        kind = next(kind for kind in Kind if address // BLOCK * BLOCK in self.machine.blocks(kind))
        return str(self.machine.frame_record(address // PAGE * PAGE)) if kind == Kind.SPLIT else kind.name
