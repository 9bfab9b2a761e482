"""The value that vCPU 0 starts with is not measured."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/measure.rs",
        "[ENTRY, entry, context, 0]",
        "[ENTRY, entry, context & 0, 0]",
    ),
    found_by=conformance(),
)
