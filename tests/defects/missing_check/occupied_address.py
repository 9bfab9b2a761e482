"""A page is put where the VM has one."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/call/map.rs",
        "if hw.table_entry(level3, slot) & stage2::VALID != 0 {",
        "if hw.table_entry(level3, slot) & stage2::TABLE == stage2::VALID {",
    ),
    found_by=conformance(),
)
