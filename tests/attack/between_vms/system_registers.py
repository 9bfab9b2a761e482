"""A VM reads the system registers that another VM has left in the CPU."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack

NAMES = (
    "ttbr0_el1",
    "ttbr1_el1",
    "tpidr_el0",
    "tpidr_el1",
    "tpidrro_el0",
    "contextidr_el1",
    "elr_el1",
    "far_el1",
    "sp_el0",
    "cntv_cval_el0",
)


@attack(
    by="vm",
    against="P6",
    refused="all that a VM may change is switched, or loaded with its vCPU",
    removed=Edit(
        "engine/arch/src/registers.rs",
        'msr!("S3_0_C2_C0_0", from.ttbr0_el1);',
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    write = "\n".join(f"msr {name}, x19" for name in NAMES)
    first = arena.victim(f"ldr x19, =0x00c5c0de10305000\n {write}\n 1: wfi\n b 1b")
    assert first.run().name == "WFI"
    read = "\n".join(f"mrs x0, {name}\n report x0" for name in NAMES)
    found = arena.victim(read, slot=1).reports(len(NAMES))
    known = {
        name: hex(value)
        for name, value in zip(NAMES, found, strict=True)
        if value & 0xFFFF_F000 == 0x1030_5000
    }
    assert not known, f"a VM reads registers of another: {known}"
