"""The host sees the whole register of which a VM stores a byte."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/core/src/vcpu/exit.rs",
        "trap::vcpu_register(vcpu, (esr >> 16 & 31) as usize) & low_bits(size)",
        "trap::vcpu_register(vcpu, (esr >> 16 & 31) as usize)",
    ),
    found_by=suite("tests/spec/test_vcpus.py", backend="host"),
)
