"""A call lets others change ownership while it zeroes a block."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P3",
    edits=Edit(
        "engine/core/src/call/map_block.rs",
        "    hw.zero_block(block);\n",
        "    hw.unlock();\n    hw.zero_block(block);\n    while !hw.try_lock() {}\n",
    ),
    found_by=suite("tests/conformance/test_histories.py::test_histories_are_explained", backend="qemu"),
)
