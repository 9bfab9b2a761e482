"""An address below RAM stops the engine by an overflow."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P2",
    edits=Edit(
        "engine/core/src/call/mod.rs",
        "address.wrapping_sub(hw.ram_base()) >> FRAME_SHIFT",
        "(address - hw.ram_base()) >> FRAME_SHIFT",
    ),
    found_by=conformance(),
)
