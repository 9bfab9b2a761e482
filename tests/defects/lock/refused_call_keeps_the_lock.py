"""A call that is refused keeps the lock."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P3",
    edits=Edit(
        "engine/core/src/call/dispatch.rs",
        "            _ => {}\n        }\n    }\n    hw.unlock();\n",
        "            _ => {}\n        }\n        hw.unlock();\n    }\n",
    ),
    found_by=conformance(),
)
