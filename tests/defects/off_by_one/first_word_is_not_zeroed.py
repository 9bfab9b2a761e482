"""The first word of a frame keeps its content."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/arch/src/mem.rs",
        'pub unsafe extern "C" fn bulkhead_zero_frame(pa: u64) {\n    let mut index = 0;',
        'pub unsafe extern "C" fn bulkhead_zero_frame(pa: u64) {\n    let mut index = 1;',
    ),
    found_by=suite("tests/native/test_effects.py", backend="qemu"),
)
