"""The page behind a range of RAM belongs to it."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/vm.rs",
        "first.wrapping_sub(base) < size && last.wrapping_sub(base) < size",
        "first.wrapping_sub(base) <= size && last.wrapping_sub(base) <= size",
    ),
    found_by=conformance(),
)
