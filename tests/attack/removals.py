"""Protections that several attacks run into: the edits that take each away. Trust label: TOOL."""

from bulkhead.attack import Edit

CALLS = "engine/core/src/call/mod.rs"
HOST_LEAF = Edit(CALLS, "hw.set_table_entry(host_table(hw, frame), frame.slot(), 0);", "")
"""A frame that changes hands stays in the host's stage 2."""
HOST_TLB = Edit(CALLS, "hw.invalidate_host_page(frame);", "")
"""A frame that changes hands stays in the host's TLBs."""
SCRUB = Edit(CALLS, "hw.zero_frame(frame);", "")
"""A frame goes back to the host with what was in it."""
OWNERSHIP = Edit(CALLS, "if record != Record::HOST {", "if record.kind() == crate::owner::Kind::HOST_TABLE {")
"""A donation takes whatever frame of a split block the host names."""
SMC = Edit("engine/arch/src/cpu.rs", "RW | VM | SWIO | TSC;", "RW | VM | SWIO;")
"""SMC instructions of host and VMs go to the firmware."""
BLOCK_RECORD = Edit(
    "engine/core/src/call/host_split.rs",
    "    if hw.block_record(block).kind() == Kind::SPLIT {\n        return Err(Outcome::ALREADY_MAPPED);\n    }\n"
    "    check_host_block(hw, 1, block)?;\n",
    "",
)
"""host_split takes whatever block the host names."""
