"""A missing table is reported one level too high."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P3",
    edits=Edit(
        "engine/core/src/call/mod.rs",
        "Outcome::table_missing(level as u64 + 1)",
        "Outcome::table_missing(level as u64)",
    ),
    found_by=conformance(),
)
