"""What the host wrote to a shared page reaches memory after the page is the VM's alone."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/call/share_release.rs",
        "    hw.clean_frame(frame);\n",
        "",
    ),
    found_by=conformance(),
)
