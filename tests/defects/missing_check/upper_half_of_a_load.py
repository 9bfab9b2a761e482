"""The host's answer to a load is not cut to the size of the access."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/core/src/vcpu/exit.rs",
        "let value = reply & low_bits(size);",
        "let value = reply;",
    ),
    found_by=suite("tests/spec/test_vcpus.py", backend="host"),
)
