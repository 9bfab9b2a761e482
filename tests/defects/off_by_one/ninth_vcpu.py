"""A VM may declare one vCPU more than its record has room for."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P1",
    edits=Edit(
        "engine/core/src/call/vm_create.rs",
        "vcpus > VCPUS_MAX as u64",
        "vcpus > VCPUS_MAX as u64 + 1",
    ),
    found_by=conformance(),
)
