"""A vCPU that a CPU has loaded is taken back."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/core/src/call/reclaim.rs",
        "if run != RunState::OFF && run != RunState::RUNNABLE {",
        "if run == RunState::TRANSIT {",
    ),
    found_by=conformance(),
)
