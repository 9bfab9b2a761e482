"""activate goes round for ever where a vCPU is missing."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P2",
    edits=Edit(
        "engine/core/src/call/activate.rs",
        "        index += 1;\n",
        "        index += u64::from(!missing);\n",
    ),
    found_by=conformance(),
)
