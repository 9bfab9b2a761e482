"""A page is mapped into a VM that is being taken apart."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P4",
    edits=Edit(
        "engine/core/src/call/map.rs",
        "if state != State::BUILDING && state != State::ACTIVE {",
        "if state == State::FREE {",
    ),
    found_by=conformance(),
)
