"""A VM that is killed while a vCPU of it is being claimed runs once more."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P4",
    edits=Edit(
        "engine/core/src/vcpu/run.rs",
        "    if !is_active(hw, record) {\n        release(",
        "    if record.kind() != Kind::VCPU {\n        release(",
    ),
    found_by=suite("tests/native/test_meanwhile.py", backend="host"),
)
