"""The address that a level 2 table covers is shifted as if it were one of level 3."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/call/table_reclaim.rs",
        "return Ipa(table.slot() << level1_shift);",
        "return Ipa(table.slot() << level2_shift);",
    ),
    found_by=conformance(),
)
