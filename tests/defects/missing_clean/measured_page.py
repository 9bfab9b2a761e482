"""A page is measured while newer bytes of it may be in a cache."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/call/map.rs",
        "        hw.clean_frame(frame);\n",
        "",
    ),
    found_by=conformance(),
)
