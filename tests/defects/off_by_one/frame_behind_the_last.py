"""The first address behind RAM counts as a frame."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P1",
    edits=Edit("engine/core/src/call/mod.rs", "index >= hw.frames()", "index > hw.frames()"),
    found_by=conformance(),
)
