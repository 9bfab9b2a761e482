"""The host links a virtual interrupt to a physical one."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/vcpu/run.rs",
        "let is_sound = value & !allowed == 0\n        && value",
        "let is_sound = value | allowed != 0\n        && value",
    ),
    found_by=suite("tests/spec/test_vcpus.py", backend="host"),
)
