"""TLBI gets the address, not the number of the page."""

from bulkhead.defects import Edit, defect, trace

DEFECT = defect(
    breaks="P7",
    edits=Edit("engine/arch/src/tlb.rs", "in(reg) ipa >> 12, options", "in(reg) ipa, options"),
    found_by=trace(),
)
