"""Protections that several attacks run into: the edits that take each away. Trust label: TOOL."""

from bulkhead.attack import Edit

HOST_LEAF = Edit(
    "engine/core/src/call/mod.rs",
    "    hw.set_table_entry(host_table(hw, frame), frame.slot(), 0);\n    hw.invalidate_host_page(frame);",
    "    hw.invalidate_host_page(frame);",
)
"""A frame that changes hands stays in the host's stage 2."""

SCRUB = Edit(
    "engine/core/src/call/mod.rs",
    "    hw.zero_frame(frame);\n    hw.invalidate_instructions();\n    hw.set_frame_record(frame, FrameRecord::HOST);",
    "    hw.invalidate_instructions();\n    hw.set_frame_record(frame, FrameRecord::HOST);",
)
"""A frame goes back to the host with what was in it."""

OWNERSHIP = Edit(
    "engine/core/src/call/mod.rs",
    "    if record != FrameRecord::HOST {\n        return Err(Outcome::not_owned(register));",
    "    if record.kind() == Kind::HOST_TABLE {\n        return Err(Outcome::not_owned(register));",
)
"""A donation takes whatever frame of a split block the host names."""
SMC = Edit("engine/arch/src/cpu.rs", "RW | VM | SWIO | TSC | TIDCP", "RW | VM | SWIO | TIDCP")
"""SMC instructions of host and VMs go to the firmware."""
