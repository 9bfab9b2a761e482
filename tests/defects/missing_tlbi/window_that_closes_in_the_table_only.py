"""A DMA window is closed, but the SMMU may still know it."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/call/dma_revoke.rs",
        "    hw.invalidate_dma(block);\n",
        "",
    ),
    found_by=conformance(),
)
