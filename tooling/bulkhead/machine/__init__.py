"""Machines that Bulkhead runs on: QEMU's `virt`, its consoles, the management link, guests, and the main job.

Trust label: TOOL.
"""
