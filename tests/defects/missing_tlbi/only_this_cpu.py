"""TLBs of other CPUs keep what has changed hands."""

from bulkhead.defects import Edit, attacks, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit("engine/arch/src/tlb.rs", '"tlbi vmalle1is"', '"tlbi vmalle1"'),
    found_by=attacks("stale", "sharing"),
)
