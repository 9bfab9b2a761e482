"""A shared page is zeroed for the host while the host has it."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/core/src/call/reclaim.rs",
        "if record.sharing() == Sharing::ACCEPTED {",
        "if record.sharing() == Sharing::OFFERED {",
    ),
    found_by=conformance(),
)
