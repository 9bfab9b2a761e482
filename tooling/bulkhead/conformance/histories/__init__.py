"""Concurrent histories on QEMU: several CPUs issue calls at once; some order of atomic steps of the specification must
explain what each was answered and what memory holds in the end.
"""
