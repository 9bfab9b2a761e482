"""Which lines and branches of the engine the tests execute. Trust label: TOOL.

`host`: engine/core as the host build runs it, counted by the compiler's own instrumentation. What cannot be reached
there is explained line by line in `explained.toml`; an explanation that no longer fits is an error.
"""
