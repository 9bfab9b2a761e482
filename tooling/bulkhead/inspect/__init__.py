"""Looking at a stopped machine from outside: RAM, translation tables, ownership records, symbols, panic
dumps.

Trust label: TOOL. Nothing here asks the software under test: registers come from QEMU, everything else from
RAM.
"""
