"""A page is mapped before its record says whose it is."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/call/map.rs",
        (
            "    hw.set_frame_record(frame, Record::vm_page(vm, level3, slot));\n"
            "    hw.set_table_entry(level3, slot, stage2::page(hw, frame));\n"
        ),
        (
            "    hw.set_table_entry(level3, slot, stage2::page(hw, frame));\n"
            "    hw.set_frame_record(frame, Record::vm_page(vm, level3, slot));\n"
        ),
    ),
    found_by=conformance(),
)
