"""The host's first touch of a block finds what was there before the boot."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/core/src/call/first_touch.rs",
        "    return_block_to_host(hw, block);\n",
        (
            "    hw.invalidate_instructions();\n"
            "    hw.set_block_record(block, crate::owner::Record::HOST);\n"
            "    hw.set_host_entry(block, crate::stage2::block(hw, block));\n"
            "    hw.publish();\n"
            "    let _ = return_block_to_host::<H>;\n"
        ),
    ),
    found_by=suite("tests/boot/test_first_touch.py", backend="qemu"),
)
