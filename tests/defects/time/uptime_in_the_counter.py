"""A VM's virtual counter shows how long the machine has run."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/core/src/call/activate.rs",
        "hw.set_vm_word(vm, Field::COUNTER_OFFSET, hw.counter());",
        "hw.set_vm_word(vm, Field::COUNTER_OFFSET, hw.counter() & 0);",
    ),
    found_by=conformance(),
)
