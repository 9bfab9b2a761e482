"""A frame is marked before it is known that there is a table for it."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P3",
    edits=Edit(
        "engine/core/src/call/map.rs",
        "    let level3 = level3_table(hw, vm, ipa)?;\n",
        (
            "    hw.set_frame_record(frame, Record::vm_page(vm, frame, ipa.index(3)));\n"
            "    let level3 = level3_table(hw, vm, ipa)?;\n"
        ),
    ),
    found_by=conformance(),
)
