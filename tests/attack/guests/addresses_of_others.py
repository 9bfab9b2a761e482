"""A VM loads and stores at the physical addresses of host, engine and devices."""

from attack import programs
from attack.arena import Arena
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm
from bulkhead.conformance.backends.backend import BLOCK, PAGE
from native.guest import Guest


@attack(
    by="vm",
    against="P5",
    refused="a VM's stage 2 maps its own frames only: all else is an exit or an abort",
    removed=Edit(
        "engine/arch/src/cpu.rs", "VM_HCR: u64 = hcr::COMMON\n", "VM_HCR: u64 = hcr::COMMON & !hcr::VM\n"
    ),
)
def carry_out(arena: Arena) -> None:
    # The program lies where its frame is, so that it would go on running if nothing were translated.
    page, other = arena.take(), arena.machine.take_block()
    base = page & -BLOCK
    reach = [0, 0x0800_0000, 0x0902_0000, other, 0x4800_0000, (1 << 39) - 8]
    reach += [frame for frame in arena.engine_frames.values() if frame & -BLOCK != base]
    loads = "\n".join(f"ldr x1, ={address:#x}\n ldr x0, [x1]\n str x0, [x1]\n wfi" for address in reach)
    vm = Vm(arena.machine, ram=((base, BLOCK),)).cover(page)
    arena.write(page, programs.guest(loads, page).ljust(PAGE, b"\0"))
    assert arena.map(vm.slot, page, page, 1) == "SUCCESS"
    vm.vcpu(0)
    vm.entry(page).activate()
    guest = Guest.of(vm)
    for address in reach:
        for expected in ("MMIO_READ", "MMIO_WRITE", "WFI"):
            exit_ = guest.run(0x1234)
            assert exit_.name == expected, (
                f"a VM at {address:#x}, where {expected} was to be expected: {exit_}"
            )
            assert expected == "WFI" or exit_.data[0] == address, f"a VM at {address:#x}: {exit_}"
