"""CPU_ON starts a vCPU anew that runs already."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/psci.rs",
        "    if !hw.exchange_frame_record(frame, off, transit) {",
        "    if !hw.exchange_frame_record(frame, hw.frame_record(frame), transit) {",
    ),
    found_by=suite("tests/spec/test_vcpus.py", backend="host"),
)
