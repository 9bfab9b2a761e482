"""A counter that does not exist stops the engine."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P2",
    edits=Edit(
        "engine/arch/src/machine.rs",
        "let slot = index_in(COUNTED_EXITS)?;",
        "let slot = index as usize;",
    ),
    found_by=suite("tests/native/test_calling.py", backend="qemu"),
)
