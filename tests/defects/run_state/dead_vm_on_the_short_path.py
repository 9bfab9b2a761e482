"""A vCPU that is loaded already is entered without looking whether its VM lives."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P4",
    edits=Edit(
        "engine/core/src/vcpu/run.rs",
        "            return if is_active(hw, record) {",
        "            return if record.kind() == Kind::VCPU {",
    ),
    found_by=suite("tests/native/test_psci.py", backend="host"),
)
