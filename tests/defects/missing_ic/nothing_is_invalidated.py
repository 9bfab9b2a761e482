"""The invalidation of instruction caches is a barrier only."""

from bulkhead.defects import Edit, defect, trace

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/arch/src/cache.rs",
        '    unsafe { core::arch::asm!("ic ialluis", options(nostack, preserves_flags)) }\n',
        "",
    ),
    found_by=trace(),
)
