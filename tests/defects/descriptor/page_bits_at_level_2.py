"""The leaf of a block has the type bits of a page."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/stage2.rs",
        "address(hw, block.first()) | BLOCK",
        "address(hw, block.first()) | PAGE",
    ),
    found_by=conformance(),
)
