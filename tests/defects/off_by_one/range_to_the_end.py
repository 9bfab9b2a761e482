"""A range of RAM may end one page behind the address space."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/call/vm_create.rs",
        "size > LIMIT - base",
        "size > LIMIT - base + FRAME_SIZE",
    ),
    found_by=conformance(),
)
