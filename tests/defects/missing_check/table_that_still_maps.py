"""A table goes back to the host while entries of it are in use."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P4",
    edits=Edit(
        "engine/core/src/call/table_reclaim.rs",
        "if !hw.table_is_empty(table) {",
        "if !hw.table_is_empty(table) && record.level() == 3 {",
    ),
    found_by=conformance(),
)
