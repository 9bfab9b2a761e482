"""The address of a page is put together without its level 2 index."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/call/reclaim.rs",
        "(level2.slot() << TABLE_SHIFT | level3.slot()) << TABLE_SHIFT | page.slot()",
        "level2.slot() << (2 * TABLE_SHIFT) | page.slot()",
    ),
    found_by=conformance(),
)
