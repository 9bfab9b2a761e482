"""A VM reads how long the machine has been up."""

from attack.arena import Arena
from bulkhead.attack import Edit, attack


@attack(
    by="vm",
    against="P6",
    refused="the counter offset is fixed when the VM is sealed",
    removed=Edit(
        "engine/core/src/call/activate.rs",
        "hw.set_vm_word(vm, Field::COUNTER_OFFSET, hw.counter());",
        "hw.set_vm_word(vm, Field::COUNTER_OFFSET, 0);",
    ),
)
def carry_out(arena: Arena) -> None:
    before = arena.ticks()
    counted = arena.victim("mrs x0, cntvct_el0\n report x0").reports()[0]
    alive = arena.ticks() - before
    assert counted <= alive, f"a VM that has been there for {alive} ticks counts {counted}"
