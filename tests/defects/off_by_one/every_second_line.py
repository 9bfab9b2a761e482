"""Every second line of a frame is cleaned."""

from bulkhead.defects import Edit, defect, trace

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/arch/src/cache.rs",
        "offset = offset.wrapping_add(line);",
        "offset = offset.wrapping_add(2 * line);",
    ),
    found_by=trace(),
)
