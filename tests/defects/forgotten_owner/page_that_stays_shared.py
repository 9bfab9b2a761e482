"""A VM takes a shared page back, and the host keeps its mapping."""

from bulkhead.defects import Edit, conformance, defect

DEFECT = defect(
    breaks="P6",
    edits=Edit(
        "engine/core/src/vcpu/sharing.rs",
        (
            "    if record.sharing() == Sharing::ACCEPTED {\n"
            "        withdraw_from_host(p, frame);\n"
            "        // As"
        ),
        (
            "    if record.sharing() == Sharing::PRIVATE {\n"
            "        withdraw_from_host(p, frame);\n"
            "        // As"
        ),
    ),
    found_by=conformance(),
)
