"""Bulkhead: build, boot, test and prove the isolation engine.

Trust label: TOOL. Nothing in this package is part of the trusted base; the sub-packages that state claims
(`bulkhead.spec`) say so themselves.
"""
