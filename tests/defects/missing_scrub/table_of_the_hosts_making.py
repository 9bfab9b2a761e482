"""A table is linked with the descriptors that the host has written into it."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/call/table_donate.rs",
        "    hw.zero_frame(frame);\n",
        "",
    ),
    found_by=conformance(),
)
