"""A donation takes whatever frame of a split block it is given."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/call/mod.rs",
        "if record != Record::HOST {",
        "if record.kind() == Kind::HOST_TABLE {",
    ),
    found_by=conformance(),
)
