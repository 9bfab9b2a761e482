"""Entries of both stages together stay in the TLBs when a leaf goes."""

from bulkhead.defects import Edit, attacks, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/arch/src/tlb.rs",
        '    unsafe { core::arch::asm!("tlbi vmalle1is", options(nostack, preserves_flags)) }\n',
        "",
    ),
    found_by=attacks("stale"),
)
