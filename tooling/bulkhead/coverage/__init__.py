"""Which lines and branches of the engine the tests execute. Trust label: TOOL.

`host`: engine/core as the host build runs it, counted by the compiler's own instrumentation. What cannot be reached
there is explained line by line in `explained.toml`; an explanation that no longer fits is an error.
`el2`: the shipped image's machine code as QEMU executes it, seen by a plugin; `explained_el2.toml` likewise.
"""
