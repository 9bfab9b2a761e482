"""A register that a VM has written is another one after an exit."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P5",
    edits=Edit(
        "engine/arch/src/switch.S",
        "    msr     S3_3_C13_C0_3, x12      // TPIDRRO_EL0\n",
        "",
    ),
    found_by=suite("tests/boot/test_canary.py", backend="qemu"),
)
