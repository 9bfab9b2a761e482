"""The vCPU behind the last declared one can be created."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/call/vcpu_create.rs",
        "if index >= hw.vm_word(vm, Field::VCPU_COUNT) {",
        "if index > hw.vm_word(vm, Field::VCPU_COUNT) {",
    ),
    found_by=conformance(),
)
