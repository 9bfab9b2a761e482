"""A VM shares what is not its own: addresses of others, devices, the end of the address space."""

from attack.arena import RAM, STATUS, Arena
from attack.sharer import SHARED
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import PAGE


@attack(
    by="vm",
    against="P6",
    refused="the address must lie in the RAM that the VM was created with",
    removed=Edit(
        "engine/core/src/vcpu/sharing.rs",
        "    if !vm::in_ram(p, vm, ipa) {\n        return Err(Outcome::invalid(1));\n    }\n",
        "",
    ),
)
def carry_out(arena: Arena) -> None:
    places = [0x0900_0000, 0x4800_0000, SHARED + 8, 1 << 39, (1 << 64) - PAGE]
    places += [frame for frame in arena.engine_frames.values() if frame >= RAM + (16 << 20)]
    victim = arena.victim("\n".join(f"call 0xc6000003, {place:#x}\n report x0" for place in places))
    for place in places:
        exit_ = victim.run()
        assert exit_.name == "MMIO_WRITE", f"share of {place:#x}: {exit_}"
        assert exit_.data[2] == STATUS["INVALID_ARGUMENT"], f"share of {place:#x} answers {exit_.data[2]:#x}"
