"""Every second word of a page is not measured."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/arch/src/mem.rs",
        "index.wrapping_add(slot as u64)",
        "index.wrapping_add(slot as u64 & 6)",
    ),
    found_by=suite(
        "tests/native/test_random_measurements.py", "tests/native/test_measurement.py", backend="qemu"
    ),
)
