"""The host gives frames of the engine to a VM, which then reads or writes records and tables."""

from attack.arena import RAM, Arena
from attack.removals import FRAME_OF_ANY_BLOCK
from bulkhead.attack import Edit, attack
from bulkhead.conformance import Vm
from bulkhead.conformance.testing.builder import MODE_MEASURED, MODE_ZEROED


@attack(
    by="host",
    against="P5",
    refused="the records of block and frame say that it is the engine's",
    removed=(
        *FRAME_OF_ANY_BLOCK,
        Edit("engine/core/src/call/map.rs", "measure::page(hw, vm, ipa, frame);", ""),
    ),
)
def carry_out(arena: Arena) -> None:
    vm = Vm(arena.machine).cover()
    for mode in (MODE_MEASURED, MODE_ZEROED):
        for name, frame in arena.engine_frames.items():
            before = arena.machine.physical(frame)
            answer = arena.map(vm.slot, RAM, frame, mode)
            assert answer == "NOT_OWNED", f"a VM has {name}: map answers {answer}"
            assert arena.machine.physical(frame) == before, f"{name}: map has changed it"
