"""The host opens a VM's block, the engine's, or one with frames of VMs in it to its devices."""

from attack.arena import RAM, Arena
from attack.bus_masters import DEVICES
from bulkhead.attack import Edit, attack
from bulkhead.conformance.backends.backend import BLOCK


@attack(
    by="device",
    against="P7",
    refused="dma_allow takes whole blocks of the host",
    removed=Edit(
        "engine/core/src/call/dma_allow.rs",
        "    check_host_block(hw, 1, block)?;\n",
        "",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    victim = arena.victim()
    block = victim.vm.block(RAM + BLOCK)
    targets = {"a VM's block": block, "a split block": victim.page & -BLOCK}
    targets |= {name: frame & -BLOCK for name, frame in arena.engine_frames.items()}
    for name, target in targets.items():
        answer = arena.status("dma_allow", block=target)
        assert answer == "NOT_OWNED", f"devices reach {name}: {answer}"
