"""vm_create notes the VM's parameters before it has checked them."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P3",
    edits=Edit(
        "engine/core/src/call/vm_create.rs",
        "    if flags != 0 {\n",
        "    hw.set_vm_word(vm, Field::VCPU_COUNT, vcpus);\n    if flags != 0 {\n",
    ),
    found_by=conformance(),
)
