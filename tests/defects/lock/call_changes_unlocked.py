"""A call gives the lock back before it changes anything."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P3",
    edits=(
        Edit(
            "engine/core/src/call/dispatch.rs",
            "    let vm = regs[1];\n    let outcome",
            "    let vm = regs[1];\n    hw.unlock();\n    let outcome",
        ),
        Edit(
            "engine/core/src/call/dispatch.rs",
            "    }\n    hw.unlock();\n}",
            "    }\n}",
        ),
    ),
    found_by=conformance(),
)
