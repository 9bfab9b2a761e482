"""TLBI runs with the VMID of another VM's slot."""

from bulkhead.defects import Edit, defect, trace

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/arch/src/tlb.rs",
        "    (vm.0 + 1) << VMID_SHIFT | root",
        "    vm.0 << VMID_SHIFT | root",
    ),
    found_by=trace(),
)
