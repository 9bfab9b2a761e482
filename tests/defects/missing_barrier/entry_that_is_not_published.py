"""A new entry is not made visible to the walkers of other CPUs."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P7",
    edits=Edit(
        "engine/core/src/call/map.rs",
        "    hw.publish();\n",
        "",
    ),
    found_by=conformance(),
)
