"""The last vector registers are loaded from the place of others."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/arch/src/fp.S",
        "\\operation q30, q31, [x0, #0x1e0]",
        "\\operation q30, q31, [x0, #0x1c0]",
    ),
    found_by=suite("tests/boot/test_canary.py", backend="qemu"),
)
