"""A page is zeroed before the host has lost it."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/core/src/call/vm_create.rs",
        "    withdraw_from_host(hw, frame);\n    hw.zero_frame(frame);\n",
        "    hw.zero_frame(frame);\n    withdraw_from_host(hw, frame);\n",
    ),
    found_by=conformance(),
)
