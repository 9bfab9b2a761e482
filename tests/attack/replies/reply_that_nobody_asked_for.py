"""The host answers exits that take no answer, to set a register."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="host",
    against="P5",
    refused="a reply is taken for loads and host_call only",
    removed=Edit(
        "engine/core/src/vcpu/exit.rs",
        "if pending == Pending::HOST_CALL {",
        "if pending.load_syndrome().is_none() {",
    ),
)
def carry_out(arena: Arena) -> None:
    tell, send = "report x1\n report x5", "msr S3_0_C12_C11_5, xzr"
    victim = arena.victim(f"mov x1, #0x11\n mov x5, #0x55\n wfi\n {tell}\n {send}\n {tell}")
    assert victim.run(0xBAD).name == "WFI"
    values = [victim.run(0xBAD).data[2] for _ in range(2)]
    assert victim.run(0xBAD).name == "SGI"
    values += [victim.run(0xBAD).data[2] for _ in range(2)]
    assert values == [0x11, 0x55] * 2, f"the registers of a VM are {list(map(hex, values))}"
