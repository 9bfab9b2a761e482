"""A page leaves the host's table, but not its TLBs."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/call/mod.rs",
        "    hw.invalidate_host_page(frame);\n",
        "",
    ),
    found_by=conformance(),
)
