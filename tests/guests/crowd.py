"""A guest of up to eight vCPUs that all work all the time in blocks of 2 MiB, which are cut under their feet.

Trust label: TOOL. Every vCPU keeps a number in a page of its own in each block, and adds one to all of them for ever;
it says `F` if one is not what it wrote, or was not zero at first. The boot vCPU turns the others on, waits until all of
them have worked everywhere, shares a page of each block, which cuts the block, takes it back, and waits again; then it
says `S`. From then on it answers a byte with that byte plus one, once all the others have worked since.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from boot.assembly import assemble
from bulkhead.machine.guest_console import GuestConsole
from bulkhead.machine.hypervisor import Hypervisor

RAM, MIB = 0x4000_0000, 1 << 20
ENTRY, WORK, SHOWN = RAM + 2 * MIB, RAM + 4 * MIB, RAM + 12 * MIB
RAM_SIZE = 16 * MIB
BLOCKS = 4
PROGRAM = "crowd"  # its name in the image store
# x19: own number, x20: number of vCPUs, x21: blocks' first address, x22: rounds made, x23: where all show theirs.
CODE = f"""
entry:
    ldr x21, ={WORK:#x}
    ldr x23, ={SHOWN:#x}
    mrs x19, mpidr_el1
    and x19, x19, #0xff
    mov x22, xzr
    cbnz x19, work
    mov x20, #1
1:  ldr x0, =0xC4000003         // PSCI CPU_ON of the next vCPU, until there is none
    mov x1, x20
    adr x2, entry
    mov x3, xzr
    hvc #0
    cbnz x0, 2f
    add x20, x20, #1
    b 1b
2:  bl all_have_worked
    mov x24, xzr
3:  add x25, x21, x24, lsl #21
    ldr x0, =0xC6000003         // share the boot vCPU's own page of the block
    bl of_page
    ldr x0, =0xC6000004         // unshare
    bl of_page
    bl all_have_worked
    add x24, x24, #1
    cmp x24, #{BLOCKS}
    b.lo 3b
    mov w0, #'S'
    bl say
4:  mov x1, #0x09000000         // the PL011's flags: is there a byte?
    ldr w0, [x1, #0x18]
    tbz w0, #4, 5f
    wfe
    b 4b
5:  ldr w26, [x1]
    bl all_have_worked
    add w0, w26, #1
    bl say
    b 4b

of_page:                        // a call about the page at x25, which must succeed
    mov x1, x25
    mov x2, xzr
    mov x3, xzr
    hvc #0
    cbnz x0, failed
    ret

all_have_worked:                // until each other vCPU has made two rounds: the last begins after the call
    mov x9, #1
1:  cmp x9, x20
    b.hs 2f
    add x10, x23, x9, lsl #6
    ldr x11, [x10]
    add x11, x11, #2
    str x11, [x10, #8]
    add x9, x9, #1
    b 1b
2:  mov x9, #1
3:  cmp x9, x20
    b.hs 6f
    add x10, x23, x9, lsl #6
    ldp x12, x11, [x10]
    cmp x12, x11
    b.hs 4f
    wfe
    b 3b
4:  add x9, x9, #1
    b 3b
6:  ret

work:
    add x24, x21, x19, lsl #12
    add x25, x23, x19, lsl #6
1:  mov x9, xzr
2:  add x10, x24, x9, lsl #21
    ldr x11, [x10]
    cmp x11, x22
    b.ne failed
    add x11, x11, #1
    str x11, [x10]
    add x9, x9, #1
    cmp x9, #{BLOCKS}
    b.lo 2b
    add x22, x22, #1
    str x22, [x25]
    b 1b

failed:
    mov w0, #'F'
    bl say
1:  wfe
    b 1b
say:
    mov x1, #0x09000000
    str w0, [x1]
    ret
"""

GLUTTON = "glutton"
# Every vCPU touches all RAM, page by page, from its own eighth on.
GLUTTON_CODE = f"""
entry:
    mrs x19, mpidr_el1
    and x19, x19, #0xff
    mov x20, #1
1:  ldr x0, =0xC4000003
    mov x1, x20
    adr x2, entry
    mov x3, xzr
    hvc #0
    add x20, x20, #1
    cmp x20, #8
    b.lo 1b
    lsl x1, x19, #27
    ldr x3, ={RAM:#x}
2:  add x4, x3, x1
    ldr x5, [x4]
    add x1, x1, #4096
    and x1, x1, #0x3fffffff
    b 2b
"""


@dataclass
class Crowd:
    """A running one."""

    host: Hypervisor
    vm: int
    console: GuestConsole = field(init=False)
    said: bytes = b""
    """What it has said so far."""

    def __post_init__(self) -> None:
        self.console = GuestConsole(self.host, self.vm)

    def wait_settled(self, seconds: float) -> None:
        """Until all vCPUs have worked everywhere, before and after the cut of each block."""
        self._wait(b"S", seconds)

    def ask(self) -> None:
        """Whether all vCPUs go on."""
        self.console.send(b"A")

    def wait_answer(self, seconds: float) -> None:
        """The answer to `ask`, if it is yes; AssertionError if it is no."""
        self._wait(b"B", seconds)

    def _wait(self, answer: bytes, seconds: float) -> None:
        self.said += answer
        self.host.machine.wait_until(
            lambda: len(self.console.output) >= len(self.said) or self.console.end is not None,
            seconds,
            f"VM {self.vm}",
        )
        assert self.console.end is None, self.console.end
        assert self.console.output == self.said


def programs() -> dict[str, bytes]:
    """For the image store."""
    return {PROGRAM: assemble(CODE), GLUTTON: assemble(GLUTTON_CODE)}


def start(host: Hypervisor, vcpus: int, ram: int = RAM_SIZE, program: str = PROGRAM) -> Crowd:
    """One more VM with such a guest."""
    arguments: dict[str, object] = {
        "kernel": program, "initrd": None, "dtb": b"\xd0\x0d\xfe\xed", "kernel_address": ENTRY, "initrd_address": 0,
        "dtb_address": RAM, "entry": ENTRY, "ram": [[RAM, ram]], "cpus": vcpus,
    }  # fmt: skip
    return Crowd(host, int(host.shim.link.call("start", arguments)["vm"]))
