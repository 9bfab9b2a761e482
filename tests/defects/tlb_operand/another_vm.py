"""A reclaimed page is forgotten for another VMID than its VM's."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/call/reclaim.rs",
        "hw.invalidate_vm_page(record.vm(), ipa);",
        "hw.invalidate_vm_page(crate::addr::VmId(0), ipa);",
    ),
    found_by=conformance(),
)
