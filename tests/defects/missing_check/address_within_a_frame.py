"""An address in the middle of a frame counts as that frame."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P1",
    edits=Edit(
        "engine/core/src/call/mod.rs",
        "if address & (FRAME_SIZE - 1) != 0 || index >= hw.frames() {",
        "if index >= hw.frames() {",
    ),
    found_by=conformance(),
)
