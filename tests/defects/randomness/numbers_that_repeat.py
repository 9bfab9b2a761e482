"""Every request for random numbers gets the same ones."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/arch/src/random.rs",
        "    mix(key, &NEXT);\n",
        "",
    ),
    found_by=suite("tests/boot/test_random.py", backend="qemu"),
)
