"""A table that is missing is told before a frame that is not the host's."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P3",
    edits=Edit(
        "engine/core/src/call/map.rs",
        "    let frame = host_frame(hw, 3, address)?;\n    let level3 = level3_table(hw, vm, ipa)?;\n",
        "    let level3 = level3_table(hw, vm, ipa)?;\n    let frame = host_frame(hw, 3, address)?;\n",
    ),
    found_by=conformance(),
)
