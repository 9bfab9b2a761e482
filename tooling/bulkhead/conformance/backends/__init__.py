"""Machines: what one must offer (`backend`), and those that do: `host`, `qemu`, `metal`. They carry registers and bytes
and know no call. Trust label: TOOL.
"""
