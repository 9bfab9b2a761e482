"""A VMID is free for the next VM while TLBs know the last one."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/core/src/call/vm_destroy.rs",
        "    hw.invalidate_vm(vm);\n",
        "",
    ),
    found_by=conformance(),
)
