"""TLBI may overtake the store that cleared the leaf."""

from bulkhead.defects import Edit, defect, trace

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/arch/src/tlb.rs",
        "pub fn invalidate_host_page(address: u64) {\n    dsb_ishst();\n",
        "pub fn invalidate_host_page(address: u64) {\n",
    ),
    found_by=trace(),
)
