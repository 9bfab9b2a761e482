"""A VM's fault where a page is mapped meanwhile keeps the lock."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P3",
    edits=Edit(
        "engine/core/src/vcpu/exit.rs",
        (
            "    let mapping = stage2::walk(p, vm, ipa);\n"
            "    p.unlock();\n"
            "    if mapping != Mapping::Nothing {\n"
            "        return Decision::Resume;\n"
            "    }\n"
        ),
        (
            "    let mapping = stage2::walk(p, vm, ipa);\n"
            "    if mapping != Mapping::Nothing {\n"
            "        return Decision::Resume;\n"
            "    }\n"
            "    p.unlock();\n"
        ),
    ),
    found_by=suite("tests/spec/test_vcpus.py", backend="host"),
)
