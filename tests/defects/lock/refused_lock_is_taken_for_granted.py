"""A call goes on where another CPU has the lock."""

from bulkhead.defects import Edit, defect, suite

DEFECT = defect(
    breaks="P3",
    edits=Edit(
        "engine/core/src/call/dispatch.rs",
        "    if !hw.try_lock() {\n        return put(regs, Outcome::BUSY);\n    }\n",
        "    let _ = hw.try_lock();\n    let _ = Outcome::BUSY;\n",
    ),
    found_by=suite("tests/conformance/test_histories.py::test_histories_are_explained", backend="qemu"),
)
