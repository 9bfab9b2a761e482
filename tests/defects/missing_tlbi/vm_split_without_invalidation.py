"""A block is replaced by a table while TLBs still know the block."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/call/vm_split.rs",
        "    hw.invalidate_vm_page(vm, ipa_of_block(hw, record));\n",
        "",
    ),
    found_by=conformance(),
)
