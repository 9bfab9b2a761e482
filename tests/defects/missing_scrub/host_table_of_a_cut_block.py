"""The host's new table of a VM's block keeps what was in it."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/call/vm_split.rs",
        "    hw.zero_frame(host_table);\n",
        "",
    ),
    found_by=conformance(),
)
