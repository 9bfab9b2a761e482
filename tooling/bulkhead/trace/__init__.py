"""What the engine does at EL2 on QEMU, instruction by instruction: coverage and traces of the shipped image.

Trust label: TOOL. A TCG plugin (`probe.c`) writes into memory that `probe.Probe` shares with it; nothing in the image
knows of it, and what it executes is what is shipped.
"""
