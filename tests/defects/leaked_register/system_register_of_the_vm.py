"""A system register of the VM is left for the host."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/arch/src/switch.S",
        "    msr     S3_0_C5_C2_0, xzr       // ESR_EL1\n",
        "",
    ),
    found_by=suite("tests/boot/test_canary.py", backend="qemu"),
)
