"""The last lines of a block keep their content."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/arch/src/mem.rs",
        "while offset < BLOCK_SIZE {",
        "while offset < BLOCK_SIZE - TURN {",
    ),
    found_by=suite("tests/native/test_blocks.py", backend="qemu"),
)
