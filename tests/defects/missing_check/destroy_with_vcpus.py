"""A VM is destroyed while a vCPU of it is left."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P4",
    edits=Edit(
        "engine/core/src/call/vm_destroy.rs",
        "if !vm::has_no_vcpu(hw, vm) || !hw.table_is_empty(root) {",
        "if !hw.table_is_empty(root) {",
    ),
    found_by=conformance(),
)
