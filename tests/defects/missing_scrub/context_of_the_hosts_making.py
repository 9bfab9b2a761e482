"""A vCPU starts with registers that the host has written."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/core/src/call/vcpu_create.rs",
        "    hw.zero_frame(frame);\n",
        "",
    ),
    found_by=conformance(),
)
