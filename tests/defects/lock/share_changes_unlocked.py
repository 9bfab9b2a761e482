"""A VM's share gives the lock back before it changes the page's record."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P3",
    edits=Edit(
        "engine/core/src/vcpu/sharing.rs",
        "    let changed = change(p, vm, ipa, function);\n    p.unlock();\n",
        "    p.unlock();\n    let changed = change(p, vm, ipa, function);\n",
    ),
    found_by=conformance(),
)
