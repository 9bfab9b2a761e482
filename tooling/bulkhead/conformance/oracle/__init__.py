"""The specification as judge of a machine: its state along with the machine's (`ghost`), step by step (`oracle`,
`vcpus`), and what must hold of records and tables by themselves (`invariants`). Trust label: TOOL.
"""
