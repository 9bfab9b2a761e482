"""A page that is given away stays in the host's table."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/call/mod.rs",
        "    hw.set_table_entry(host_table(hw, frame), frame.slot(), 0);\n",
        "",
    ),
    found_by=conformance(),
)
