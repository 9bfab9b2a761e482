"""A page changes hands while instruction caches know what was in it."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/call/map.rs",
        "    hw.invalidate_instructions();\n",
        "",
    ),
    found_by=conformance(),
)
