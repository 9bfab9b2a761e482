"""The host gives frames of the engine to a VM, which then reads or writes records and tables."""

from attack.arena import RAM, Arena
from bulkhead.attack import attack
from bulkhead.conformance import Vm


@attack(
    by="host",
    against="P5",
    refused="the record of the block says that it is the engine's",
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine).cover()
    for name, frame in arena.engine_frames.items():
        answer = arena.map(vm.slot, RAM, frame)
        assert answer == "NOT_OWNED", f"a VM has {name}: map answers {answer}"
