"""The leaf of a page has the type bits of a block, which are reserved at level 3."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit("engine/core/src/stage2.rs", "address(hw, frame) | PAGE", "address(hw, frame) | BLOCK"),
    found_by=conformance(),
)
