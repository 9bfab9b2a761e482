"""The host gives away a block, or frames of it, that its devices can still reach."""

from attack.arena import RAM, Arena
from attack.bus_masters import DEVICES
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm


@attack(
    by="device",
    against="P7",
    refused="the record of the block says that it is a window",
    removed=Edit(
        "engine/core/src/call/map_block.rs",
        "if kind != Kind::HOST && kind != Kind::UNCLEARED {",
        "if kind != Kind::HOST && kind != Kind::UNCLEARED && kind != Kind::DMA {",
    ),
    machine=DEVICES,
)
def carry_out(arena: Arena) -> None:
    window = arena.window(opened=True)
    vm = Vm(arena.machine)
    vm.table(2)
    answer = arena.status("map_block", vm=vm.slot, ipa=RAM, block=window)
    assert answer == "NOT_OWNED", "a block is a VM's and the devices' at once"
    assert arena.status("host_split", block=window, table=arena.take()) == "NOT_OWNED"
    assert arena.map(vm.slot, RAM, window) == "NOT_OWNED"
