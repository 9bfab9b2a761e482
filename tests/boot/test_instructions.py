"""Instructions of the hot paths, counted exactly: under `-icount shift=0` and 1 GHz one tick is one instruction.

`ci/baselines/instructions.json` holds the accepted figures; a path that got more than 2 % longer fails. To accept new
figures run this file as a program. What is counted: from the calling instruction to the one after it, both sides'
code in between included (the host of the round trips is a loop of 11 instructions that answers with `vcpu_run`).
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from boot.assembly import assemble
from boot.rig import VM_RAM, Rig, Vm, booted, start_vm
from bulkhead.image import build

BASELINE = Path(__file__).resolve().parents[2] / "ci" / "baselines" / "instructions.json"
TOLERANCE = 1.02
CPU = "neoverse-n1,cntfrq=1000000000"
REPEATS = 4
"""The last repetition counts: the first ones load the vCPU and translate code."""

HOST_CALL = f"""
    mov     x19, #{REPEATS}
1:  ldr     x0, =0xC6000000
    isb
    mrs     x10, cntpct_el0
    hvc     #0
    mrs     x11, cntpct_el0
    subs    x19, x19, #1
    b.ne    1b
    mrs     x12, cntpct_el0
    mrs     x13, cntpct_el0
"""

VM_PATHS = {
    "vm_call": "ldr x0, =0x80000000\n isb\n mrs x10, cntvct_el0\n hvc #0\n mrs x11, cntvct_el0",
    "mmio_read": "ldr x1, =0x09000018\n isb\n mrs x10, cntvct_el0\n ldr w2, [x1]\n mrs x11, cntvct_el0",
    "mmio_write": "ldr x1, =0x09000018\n isb\n mrs x10, cntvct_el0\n str w2, [x1]\n mrs x11, cntvct_el0",
    "wfi": "isb\n mrs x10, cntvct_el0\n wfi\n mrs x11, cntvct_el0",
    "sgi": "isb\n mrs x10, cntvct_el0\n msr S3_0_C12_C11_5, xzr\n mrs x11, cntvct_el0",
}


def vm_program(path: str) -> bytes:
    """Takes the path REPEATS times and tells the host how many ticks the last one took, less those of no path."""
    return assemble(f"""
    mov     x19, #{REPEATS}
1:  {path}
    subs    x19, x19, #1
    b.ne    1b
    mrs     x12, cntvct_el0
    mrs     x13, cntvct_el0
    sub     x1, x11, x10
    sub     x13, x13, x12
    sub     x1, x1, x13
    ldr     x0, =0xC6000042
    hvc     #0
2:  b       2b
    .ltorg
    """)


def host_program(body: str, result: int) -> bytes:
    """Runs `body`, which may use any register, and stores x1 at physical `result`."""
    pairs = range(19, 30, 2)
    save = "\n".join(f"stp x{n}, x{n + 1}, [sp, #{8 * (n - 19)}]" for n in pairs)
    load = "\n".join(f"ldp x{n}, x{n + 1}, [sp, #{8 * (n - 19)}]" for n in pairs)
    return assemble(f"""
    sub     sp, sp, #96
    {save}
    {body}
    ldr     x3, ={result:#x}
    str     x1, [x3]
    {load}
    add     sp, sp, #96
    ret
    .ltorg
    """)


def run_loop(vcpu: int) -> str:
    """The fastest host there can be: runs the vCPU until it makes a HOST_CALL, whose argument is left in x1."""
    return f"""
    ldr     x20, =0xC600000D
    ldr     x21, ={vcpu:#x}
1:  mov     x0, x20
    mov     x1, x21
    mov     x2, xzr
    mov     x3, xzr
    mov     x4, xzr
    mov     x5, xzr
    mov     x6, xzr
    hvc     #0
    cbnz    x0, 2f
    cmp     x1, #9
    b.ne    1b
    mov     x1, x2
    b       3f
2:  udf     #0                       // an error: the payload reports the fault
3:
    """


def execute(rig: Rig, body: str) -> int:
    """Runs `body` at the host's EL1; x1 at its end."""
    result, program = rig.take(), rig.take()
    rig.write(program, host_program(body, result))
    rig.execute(program)
    return int(struct.unpack("<Q", rig.read(result, 8))[0])


def measure(image: Path | None = None) -> dict[str, int]:
    """Every figure, from one boot, of the shipped engine or of another image with the payload."""
    figures = {}
    with booted(icount=True, cpu_model=CPU, image=image) as rig:
        difference = "sub x1, x11, x10\n sub x13, x13, x12\n sub x1, x1, x13"
        figures["host_call"] = execute(rig, HOST_CALL + difference)
        for slot, (name, path) in enumerate(VM_PATHS.items()):
            vm: Vm = start_vm(rig, slot, {VM_RAM: vm_program(path)})
            figures[name] = execute(rig, run_loop(vm.contexts[0]))
    return figures


@pytest.mark.qemu
def test_no_path_got_longer() -> None:
    accepted: dict[str, int] = json.loads(BASELINE.read_text())["instructions"]
    measured = measure()
    assert measured.keys() == accepted.keys(), f"measured {measured}: run this file as a program to record"
    longer = {
        name: (accepted[name], count)
        for name, count in measured.items()
        if count > accepted[name] * TOLERANCE
    }
    assert not longer, f"paths that got longer than the baseline (accepted, now): {longer}"


def record() -> None:
    """Writes the figures of this tree, and those with the build option `spectre-bhb`, as the baseline."""
    BASELINE.parent.mkdir(parents=True, exist_ok=True)
    note = "instructions from trap to return, QEMU -icount shift=0, neoverse-n1; by tests/boot/test_instructions.py"
    other = measure(build.build("pinned", "payload", ("spectre-bhb",)).image)
    figures = {"what": note, "instructions": measure(), "with_spectre_bhb": other}
    BASELINE.write_text(json.dumps(figures, indent=2) + "\n")
    print(BASELINE.read_text())


if __name__ == "__main__":
    record()
