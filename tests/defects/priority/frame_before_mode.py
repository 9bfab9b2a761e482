"""The frame is checked before the mode."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P3",
    edits=(
        Edit(
            "engine/core/src/call/map.rs",
            "    let frame = host_frame(hw, 3, address)?;\n    let level3",
            "    let level3",
        ),
        Edit(
            "engine/core/src/call/map.rs",
            "    if mode != MAP_ZEROED",
            "    let frame = host_frame(hw, 3, address)?;\n    if mode != MAP_ZEROED",
        ),
    ),
    found_by=conformance(),
)
