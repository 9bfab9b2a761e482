"""A wrong frame is reported as a wrong level."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P3",
    edits=Edit(
        "engine/core/src/call/table_donate.rs",
        "host_frame(hw, 4, address)?",
        "host_frame(hw, 3, address)?",
    ),
    found_by=conformance(),
)
