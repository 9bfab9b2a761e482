"""The zeros of a frame stay in the cache, the secrets in memory."""

from bulkhead.defects import Edit, defect, trace

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/arch/src/machine.rs",
        (
            "            mem::bulkhead_zero_frame(address(frame));\n"
            "            mem::bulkhead_clean_frame(address(frame));\n"
        ),
        "            mem::bulkhead_zero_frame(address(frame));\n",
    ),
    found_by=trace(),
)
