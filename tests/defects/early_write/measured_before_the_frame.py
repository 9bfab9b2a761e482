"""A vCPU is measured before its frame is checked."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P3",
    edits=(
        Edit(
            "engine/core/src/call/vcpu_create.rs",
            "    measure::vcpu(hw, vm, index);\n",
            "",
        ),
        Edit(
            "engine/core/src/call/vcpu_create.rs",
            "    let frame = host_frame(hw, 3, address)?;\n",
            "    measure::vcpu(hw, vm, index);\n    let frame = host_frame(hw, 3, address)?;\n",
        ),
    ),
    found_by=conformance(),
)
