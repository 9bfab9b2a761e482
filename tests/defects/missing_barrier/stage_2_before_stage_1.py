"""The combined entries of a page go before its stage 2 entries are gone."""

from bulkhead.defects import Edit, defect, trace

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/arch/src/tlb.rs",
        "in(reg) ipa >> 12, options(nostack, preserves_flags)) }\n    dsb_ish();",
        "in(reg) ipa >> 12, options(nostack, preserves_flags)) }",
    ),
    found_by=trace(),
)
