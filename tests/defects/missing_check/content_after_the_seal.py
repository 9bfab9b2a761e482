"""The host adds a page of its own content to a VM that is measured already."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/call/map.rs",
        "if mode == MAP_MEASURED && state != State::BUILDING {",
        "if mode == MAP_MEASURED && state == State::DYING {",
    ),
    found_by=conformance(),
)
