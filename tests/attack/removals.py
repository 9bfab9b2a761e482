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
FRAME_OF_ANY_BLOCK = (
    Edit(CALLS, "if kind != Kind::SPLIT {", "if kind == Kind::HOST_TABLE {"),
    OWNERSHIP,
    HOST_LEAF,
)
"""A donation takes a frame out of whatever block. HOST_LEAF goes with it: a block that is not split has no table of the
host's whose leaf could be cleared.
"""
ENGINE_BLOCKS = Edit(
    "engine/image/src/host_stage2.rs",
    "    for block in plan.host_blocks() {\n        set_level2",
    "    for block in 0..plan.blocks() {\n        set_level2",
)
"""The host's stage 2 maps all of RAM, the engine's blocks too."""
CHAIN = Edit(
    "engine/arch/src/mem.rs",
    "words[index] = digest.wrapping_add(index).read_volatile();",
    "words[index] = digest.wrapping_add(index).read_volatile() & 0;",
)
"""A step of a measurement forgets those before it."""
CLAIM = (
    Edit("engine/core/src/vcpu/run.rs", " || record.run_state() == RunState::OFF", ""),
    Edit("engine/core/src/vcpu/run.rs", "record.run_state() != RunState::RUNNABLE || ", ""),
)
"""vcpu_run claims a vCPU in whatever state its record says."""
CONTEXT = (*CLAIM, Edit("engine/core/src/vcpu/run.rs", "if record.kind() != Kind::VCPU {", "if false {"))
"""vcpu_run takes any frame of a split block for the context of a vCPU."""
SMC = Edit("engine/arch/src/cpu.rs", "RW | VM | SWIO | TSC;", "RW | VM | SWIO;")
"""SMC instructions of host and VMs go to the firmware."""
BLOCK_RECORD = Edit(
    "engine/core/src/call/host_split.rs",
    "    if hw.block_record(block).kind() == Kind::SPLIT {\n        return Err(Outcome::ALREADY_MAPPED);\n    }\n"
    "    check_host_block(hw, 1, block)?;\n",
    "",
)
"""host_split takes whatever block the host names."""
