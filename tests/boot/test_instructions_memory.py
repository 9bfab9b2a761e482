"""Instructions of the steps that move memory, counted as in `test_instructions`: each is one stay at EL2.

The figures bound how long an interrupt waits: `map_block` is the longest step that the engine has. A step that got more
than 2 % longer fails; whoever accepts that writes the new figure here.
"""

from __future__ import annotations

import pytest

from boot.rig import VM_RAM, Rig, booted, start_vm
from boot.test_instructions import CPU, TOLERANCE, execute, run_loop, vm_program

PAGE, BLOCK = 4096, 2 << 20
SHARED, ABSENT, BLOCK_IPA = VM_RAM + PAGE, VM_RAM + 2 * PAGE, VM_RAM + 4 * BLOCK
HOST_BLOCK = 0x4400_0000
"""A block that the host program does not use."""

ACCEPTED = {
    "share": 488,
    "unshare": 485,
    "map": 2129,
    "map_block": 245_987,
    "vm_split": 6828,
    "vm_kill": 121,
    "reclaim": 2102,
}
"""Step → instructions from the call to behind it; those of the VM with the exit to the host and back, in which the host
does not accept the page.
"""


def of_host(call: int, *arguments: int) -> str:
    """One call of the host, timed; a refusal is a fault of the host program."""
    loads = "\n".join(f"ldr x{n}, ={value:#x}" for n, value in enumerate((call, *arguments)))
    return f"""
    {loads}
    isb
    mrs     x10, cntpct_el0
    hvc     #0
    mrs     x11, cntpct_el0
    cbz     x0, 3f
    udf     #0
3:  mrs     x12, cntpct_el0
    mrs     x13, cntpct_el0
    sub     x1, x11, x10
    sub     x13, x13, x12
    sub     x1, x1, x13
    """


def of_vm(timed: int, *others: int) -> str:
    """One call of the VM about its page SHARED, timed, and others behind it, which bring the page back."""
    arguments = f"ldr x1, ={SHARED:#x}\n mov x2, xzr\n mov x3, xzr"
    first = f"ldr x0, ={timed:#x}\n {arguments}\n isb\n mrs x10, cntvct_el0\n hvc #0\n mrs x11, cntvct_el0"
    return "\n".join([first, *(f"ldr x0, ={call:#x}\n {arguments}\n hvc #0" for call in others)])


def measure(rig: Rig) -> dict[str, int]:
    """Every figure, from one boot."""
    share, unshare = 0xC600_0003, 0xC600_0004
    figures = {}
    paths = {"share": of_vm(share, unshare), "unshare": f"{of_vm(share)}\n{of_vm(unshare)}"}
    for slot, (name, path) in enumerate(paths.items()):
        vm = start_vm(rig, slot, {VM_RAM: vm_program(path), SHARED: b""})
        figures[name] = execute(rig, run_loop(vm.contexts[0]))
    vm = start_vm(rig, len(paths), {VM_RAM: b""})
    calls = {
        "map": (0xC600_0008, vm.slot, ABSENT, rig.take(), 0),
        "map_block": (0xC600_0011, vm.slot, BLOCK_IPA, HOST_BLOCK),
        "vm_split": (0xC600_0012, HOST_BLOCK, rig.take(), rig.take()),
        "vm_kill": (0xC600_0004, vm.slot),
        "reclaim": (0xC600_0009, vm.pages[VM_RAM]),
    }
    return figures | {name: execute(rig, of_host(*call)) for name, call in calls.items()}


@pytest.mark.qemu
def test_no_step_got_longer() -> None:
    with booted(icount=True, cpu_model=CPU) as rig:
        measured = measure(rig)
    assert measured.keys() == ACCEPTED.keys(), f"measured {measured}"
    longer = {
        name: (ACCEPTED[name], count)
        for name, count in measured.items()
        if count > ACCEPTED[name] * TOLERANCE
    }
    assert not longer, f"steps that got longer (accepted, now): {longer}"
