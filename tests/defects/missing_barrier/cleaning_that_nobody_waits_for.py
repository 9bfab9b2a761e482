"""A frame changes hands while lines of it are on their way to memory."""

from bulkhead.defects import Edit, defect, trace

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/arch/src/cache.rs",
        "        offset = offset.wrapping_add(line);\n    }\n    dsb_sy();\n",
        "        offset = offset.wrapping_add(line);\n    }\n",
    ),
    found_by=trace(),
)
