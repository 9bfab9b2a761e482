"""A measured page counts the same at every address."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit("engine/core/src/measure.rs", "[PAGE, ipa.0, 0, 0]", "[PAGE, ipa.0 & 0, 0, 0]"),
    found_by=conformance(),
)
